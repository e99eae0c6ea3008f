"""Files under results/: tables, provenance, reference scores. Nothing here imports torch or gymnasium."""
