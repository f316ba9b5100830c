"""The lab's parts that know nothing of the page: models, sessions, figures, jobs, samples."""
