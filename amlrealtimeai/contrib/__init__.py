"""Names of azureml.contrib: the middle edition of autumn 2018, between the first one and azureml.accel."""
