"""Tasks: name -> environments. Families, the user's own environments, and the contract that an environment keeps."""
