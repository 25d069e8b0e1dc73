"""What users take home of jobs: objects for notebooks, figures, films, bundles for a paper."""
