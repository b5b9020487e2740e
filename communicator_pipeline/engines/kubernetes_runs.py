"""Dagster's run launcher for Kubernetes, which leaves the resident worker's runs alone.

Belongs here: the class that `infra/kubernetes/values.yaml` names. Does not belong here: what it
answers (`run_launchers.py`, without Kubernetes' library).
"""

from __future__ import annotations

from dagster_k8s import K8sRunLauncher

from communicator_pipeline.engines.run_launchers import KnowsUnlaunched


class KubernetesRunLauncher(KnowsUnlaunched, K8sRunLauncher):
    """Runs are Jobs of the cluster, but for those that nobody launched."""
