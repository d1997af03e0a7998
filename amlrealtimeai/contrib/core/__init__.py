"""azureml.contrib.core: devices of an IoT hub, by names that say what to use here."""
