"""On what the steps of launched runs are executed: the run's own process, Celery's workers, Jobs of
Kubernetes. Chosen by configuration only."""
