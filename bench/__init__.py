"""How the algorithms are compared: tasks, suites, trials, records, reports."""
