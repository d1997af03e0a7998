"""Paths and names that old programs import, with azureml's prefix replaced, and the original's signatures."""

import importlib
import inspect
import warnings

import pytest

import amlrealtimeai
from amlrealtimeai.core import Model, Workspace
from amlrealtimeai.core.image import Image

IMPORTS = [
    ("accel", "AccelImageConfiguration AccelContainerImage AccelOnnxConverter PredictionClient client_from_service"),
    ("accel", "AccelInferenceConfig VERSION __version__"),
    ("accel.accel_onnx_converter", "AccelOnnxConverter"),
    ("accel._accel_onnx_converter", "AccelOnnxConverter"),
    ("accel.accel_container_image", "AccelContainerImage AccelImageConfiguration"),
    ("accel._accel_container_image", "AccelContainerImage AccelImageConfiguration"),
    ("accel._accel_inference_config", "AccelInferenceConfig"),
    ("accel.client", "PredictionClient client_from_service"),
    ("accel._client", "PredictionClient client_from_service"),
    ("accel._external.ssdvgg_utils", "postprocess compute_anchors"),
    ("accel.models", "preprocess_array utils Resnet50 QuantizedResnet50 SsdVgg QuantizedSsdVgg"),
    ("accel.models.utils", "preprocess_array"),
    ("accel.models.accel_model", "AccelModel"),
    ("accel.models.doesnotexisterror", "DoesNotExistError"),
    ("contrib.brainwave", "BrainwaveImage BrainwaveWebservice"),
    ("contrib.brainwave.client", "PredictionClient"),
    ("contrib.brainwave.models", "Resnet50 QuantizedResnet152 Vgg16 QuantizedDensenet121 preprocess_array utils"),
    ("contrib.brainwave.models.utils", "preprocess_array"),
    ("contrib.brainwave.pipeline", "ModelDefinition TensorflowStage BrainWaveStage KerasStage"),
    ("core", "VERSION __version__ Workspace Model Image Webservice"),
    ("core.authentication", "InteractiveLoginAuthentication ServicePrincipalAuthentication AzureCliAuthentication"),
    ("core.compute", "ComputeTarget AksCompute"),
    ("core.compute.aks", "AksCompute"),
    ("core.compute_target", "ComputeTargetException"),
    ("core.image", "Image ContainerImage"),
    ("core.image.image", "Image"),
    ("core.model", "Model"),
    ("core.webservice", "Webservice AksWebservice"),
    ("core.webservice.aks", "AksWebservice"),
    ("core.webservice.webservice", "Webservice"),
    ("core.workspace", "Workspace"),
    ("exceptions", "ComputeTargetException WebserviceException"),
    ("pipeline", "ServiceDefinition TensorflowStage BrainWaveStage KerasStage AbstractStage StageEncoder"),
    ("pipeline.abstract_stage", "AbstractStage StageEncoder"),
    ("pipeline.brainwave_stage", "BrainWaveStage"),
    ("pipeline.keras_stage", "KerasStage"),
    ("pipeline.service_definition", "ServiceDefinition"),
    ("pipeline.tensorflow_stage", "TensorflowStage"),
    ("client", "PredictionClient"),
    ("deployment_client", "DeploymentClient store_refresh_token"),
    ("resnet50.model", "LocalQuantizedResNet50 RemoteQuantizedResNet50"),
    ("resnet50.utils", "preprocess_array"),
]


@pytest.mark.parametrize(("module", "names"), IMPORTS)
def test_old_paths_have_their_names(module: str, names: str) -> None:
    found = importlib.import_module(f"amlrealtimeai.{module}")
    for name in names.split():
        assert getattr(found, name) is not None


def test_old_paths_lead_to_the_same_objects() -> None:
    from amlrealtimeai import accel, core, pipeline
    from amlrealtimeai.accel import _client, accel_container_image, accel_onnx_converter
    from amlrealtimeai.core.image import image

    assert accel_onnx_converter.AccelOnnxConverter is accel.AccelOnnxConverter
    assert accel_container_image.AccelImageConfiguration is accel.AccelImageConfiguration
    assert _client.PredictionClient is accel.PredictionClient
    assert image.Image is core.Image is Image
    assert core.VERSION == accel.VERSION == amlrealtimeai.__version__
    assert issubclass(pipeline.BrainWaveStage, pipeline.AbstractStage)


# The original's parameters, in their order; ours may follow.
SIGNATURES = {
    "accel.PredictionClient": "address port use_ssl access_token service_name channel_shutdown_timeout",
    "accel.PredictionClient.score_file": "self path input_name outputs timeout",
    "accel.PredictionClient.score_numpy_arrays": "self input_map outputs",
    "accel.PredictionClient.score_tensors": "self input_map outputs timeout",
    "accel.AccelOnnxConverter.convert_tf_model": "workspace "
    "source_model input_node outputs_nodes require_fpga_conversion",
    "accel.AccelContainerImage.image_configuration": "tags properties description",
    "accel.AccelImageConfiguration": "tags properties description",
    "accel.AccelInferenceConfig": "description input_tensor output_tensor",
    "accel.models.Resnet50": "model_base_path is_frozen",
    "accel.models.QuantizedResnet50": "model_base_path is_frozen custom_weights_directory",
    "accel.models.SsdVgg.import_graph_def": "self input_tensor is_training",
    "accel.models.SsdVgg.save_weights": "self path session",
    "accel.models.SsdVgg.restore_weights": "self session",
    "accel.models.SsdVgg.get_input_dims": "self index",
    "accel.models.SsdVgg.get_output_dims": "self index",
    "accel.models.Vgg16.get_default_classifier": "self input_tensor prefix",
    "accel.models.preprocess_array": "in_images order scaling_factor output_height output_width preserve_aspect_ratio",
    "client.PredictionClient": "address port use_ssl access_token channel_shutdown_timeout",
    "client.PredictionClient.score_image": "self path timeout",
    "client.PredictionClient.score_numpy_array": "self npdata",
    "client.PredictionClient.score_tensor": "self data shape datatype timeout",
    "contrib.brainwave.BrainwaveImage.image_configuration": "tags properties description",
    "contrib.brainwave.BrainwaveWebservice.deploy_configuration": "num_replicas tags properties description "
    "ssl_enabled ssl_cert_pem_file ssl_key_pem_file",
    "contrib.brainwave.BrainwaveWebservice.update": "self image num_replicas tags description ssl_enabled "
    "ssl_certificate ssl_key",
    "contrib.brainwave.client.PredictionClient.score_file": "self data timeout",
    "contrib.brainwave.models.QuantizedResnet50": "model_base_path is_frozen custom_weights_directory",
    "contrib.brainwave.models.Resnet50": "model_base_path is_frozen custom_weights_directory",
    "contrib.brainwave.models.Resnet50.import_graph_def": "self input_tensor is_training",
    "contrib.brainwave.pipeline.BrainWaveStage": "sess model name",
    "contrib.brainwave.pipeline.ModelDefinition.save": "self model_definition_path",
    "core.AksWebservice.run": "self input_data",
    "core.AksWebservice.update": "self image autoscale_enabled autoscale_min_replicas autoscale_max_replicas "
    "autoscale_refresh_seconds autoscale_target_utilization collect_model_data auth_enabled cpu_cores memory_gb "
    "enable_app_insights scoring_timeout_ms replica_max_concurrent_requests max_request_wait_time num_replicas tags "
    "properties description models inference_config gpu_cores period_seconds initial_delay_seconds timeout_seconds "
    "success_threshold failure_threshold namespace token_auth_enabled",
    "core.Image": "workspace name id tags properties version",
    "core.Image.create": "workspace name models image_config",
    "core.Image.list": "workspace image_name model_name model_id tags properties",
    "core.Image.update_creation_state": "self",
    "core.Model": "workspace name id tags properties version run_id model_framework",
    "core.Model.deploy": "workspace name models inference_config deployment_config deployment_target overwrite",
    "core.Model.download": "self target_dir exist_ok exists_ok",
    "core.Model.list": "workspace name tags properties run_id latest",
    "core.Model.register": "workspace model_path model_name tags properties description datasets model_framework "
    "model_framework_version child_paths sample_input_dataset sample_output_dataset resource_configuration",
    "core.Model.update": "self tags description sample_input_dataset sample_output_dataset resource_configuration",
    "core.Webservice.deploy_from_image": "workspace name image deployment_config deployment_target overwrite",
    "core.Webservice.deploy_from_model": "workspace "
    "name models image_config deployment_config deployment_target overwrite",
    "core.Workspace": "subscription_id "
    "resource_group workspace_name auth _location _disable_service_check _workspace_id sku",
    "core.Workspace.from_config": "path auth _logger _file_name",
    "core.Workspace.get": "name auth subscription_id resource_group",
    "deployment_client.DeploymentClient.create_service": "self "
    "service_name model_id ssl_enabled ssl_certificate ssl_key "
    "primary_key secondary_key",
    "deployment_client.DeploymentClient.update_service": "self service_id model_id ssl_enabled ssl_certificate ssl_key "
    "primary_key secondary_key",
    "pipeline.BrainWaveStage": "model name",
    "pipeline.TensorflowStage": "session input_tensor output_tensor name",
    "resnet50.model.LocalQuantizedResNet50.import_graph_def": "self include_featurizer include_top input_tensor",
    "resnet50.model.RemoteQuantizedResNet50": "subscription_id resource_group model_management_account model_base_path "
    "remote_service_name service_principal_params",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_stand_in_the_originals_order(name: str) -> None:
    found, place = amlrealtimeai, "amlrealtimeai"
    for part in name.split("."):
        place += f".{part}"
        found = getattr(found, part, None) or importlib.import_module(place)
    expected = SIGNATURES[name].split()
    assert list(inspect.signature(found).parameters)[: len(expected)] == expected


def test_a_cloud_s_keywords_are_named_in_one_warning(workspace: Workspace) -> None:
    with pytest.warns(UserWarning, match="storage_account, container_registry has no meaning on this machine"):
        made = Workspace.create("with-storage", storage_account="s", container_registry="c", exist_ok=True)
    made.delete()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Workspace.create("with-storage", None, "local", "local", "eastus").delete()


def test_an_image_is_created_with_the_workspace_first_or_last(workspace: Workspace, model: Model) -> None:
    from amlrealtimeai.accel import AccelContainerImage
    from amlrealtimeai.errors import InvalidInputError

    configuration = AccelContainerImage.image_configuration()
    for arguments in (
        (workspace, "Upper", [model], configuration),
        ("Upper", [model], configuration, workspace),
    ):
        with pytest.raises(InvalidInputError, match=r"image name|Upper"):
            Image.create(*arguments)


def test_old_logins_are_ignored(workspace: Workspace) -> None:
    from amlrealtimeai.core.authentication import ServicePrincipalAuthentication

    principal = ServicePrincipalAuthentication("tenant", "id", service_principal_password="secret")
    assert "secret" not in repr(principal)
    with pytest.warns(UserWarning, match="auth has no meaning"):
        assert Workspace.get(workspace.name, auth=principal).name == workspace.name


def test_a_principal_may_be_a_deployment_client_s_fourth_argument() -> None:
    from amlrealtimeai import DeploymentClient

    principal = {"tenant": "t", "user": "u", "password": "p"}
    for arguments in (("s", "g", "old-account", principal), ("s", "g", "old-account", "eastus2", principal)):
        assert DeploymentClient(*arguments).list_services() == []
    Workspace.get("old-account", subscription_id="s").delete()


def test_what_a_target_cannot_do_is_named_when_a_service_is_updated(workspace: Workspace, model: Model) -> None:
    from amlrealtimeai.core import AksCompute, AksWebservice, ComputeTarget, Webservice

    cluster = ComputeTarget.create(workspace, "aks", AksCompute.provisioning_configuration())
    service = Webservice.deploy_from_model(workspace, "updated", [model], deployment_target=cluster)
    service.wait_for_deployment()
    assert isinstance(service, AksWebservice)
    with pytest.warns(UserWarning, match="^scoring_timeout_ms has no meaning on 'aks'"):
        service.update(scoring_timeout_ms=9, autoscale_enabled=True, autoscale_max_replicas=3, tags={"a": "b"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        service.update(autoscale_enabled=False, description="quiet")
    service.wait_for_deployment()
    assert (service.tags, service.description, service.state) == ({"a": "b"}, "quiet", "Healthy")
    assert service.port and service.ip_address == "127.0.0.1"
