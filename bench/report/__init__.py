"""From the records of a suite to numbers, figures and a page: `python -m bench.report [DIR/<suite> ...]`."""
