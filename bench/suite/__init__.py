"""Suite files: YAML -> checked models -> trials."""
