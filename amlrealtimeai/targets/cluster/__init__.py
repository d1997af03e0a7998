"""Services on a Kubernetes cluster, through its API server.

service.py says what is to run, manifests.py writes it as Kubernetes objects, api.py applies and lists them, rollout.py
watches them come up or says why they do not, target.py puts these together. runner.py makes a target of workspaces of
it; chart.py writes the same objects for Helm and KServe.
"""
