"""The exception names of azureml.exceptions, for code that catches them. Ours are in amlrealtimeai.errors."""

from amlrealtimeai.errors import AmlRealtimeAiError

# Old code catches each of these around one call; which of our errors comes depends on what went wrong there.
AzureMLException = AmlRealtimeAiError
UserErrorException = AmlRealtimeAiError
WorkspaceException = AmlRealtimeAiError
ModelNotFoundException = AmlRealtimeAiError
ImageException = AmlRealtimeAiError
ComputeTargetException = AmlRealtimeAiError
WebserviceException = AmlRealtimeAiError
