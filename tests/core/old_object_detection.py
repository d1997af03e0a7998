"""The old notebook on object detection, in our own words, with TensorFlow 1's switches thrown first."""

import tensorflow as tf

tf = tf.compat.v1
tf.disable_v2_behavior()

import os  # noqa: E402
import sys  # noqa: E402

import amlrealtimeai.accel._external.ssdvgg_utils as ssdvgg_utils  # noqa: E402
from amlrealtimeai.accel import AccelOnnxConverter, PredictionClient  # noqa: E402
from amlrealtimeai.accel.models import Densenet121, QuantizedSsdVgg, QuantizedVgg16, SsdVgg, utils  # noqa: E402
from amlrealtimeai.core import Workspace  # noqa: E402
from amlrealtimeai.core.compute import AksCompute, ComputeTarget  # noqa: E402
from amlrealtimeai.core.model import Model  # noqa: E402
from amlrealtimeai.core.webservice import AksWebservice, Webservice  # noqa: E402

folder, picture = sys.argv[1:]
os.chdir(folder)

# other networks build as well
for network, count in ((QuantizedSsdVgg, 12), (QuantizedVgg16, 1), (Densenet121, 1)):
    with tf.Graph().as_default():
        tensors = network("models", weights="random").import_graph_def()
        assert len(tensors if isinstance(tensors, list) else [tensors]) == count

# define
tf.reset_default_graph()
sess = tf.Session(graph=tf.get_default_graph())
with sess.as_default():
    in_images = tf.placeholder(tf.string)
    image_tensors = utils.preprocess_array(in_images, output_width=300, output_height=300, preserve_aspect_ratio=False)
    ssd_model = SsdVgg("models", is_frozen=True)
    asked = ssd_model.output_tensor_list
    ssd_model.import_graph_def(image_tensors, is_training=False)
    assert ssd_model.output_tensor_list == asked
    ssd_model.restore_weights(sess)
    outputs = {f"out_{number}": sess.graph.get_tensor_by_name(name) for number, name in enumerate(asked)}
    tf.saved_model.simple_save(sess, "saved", inputs={"images": in_images}, outputs=outputs)
input_tensors = in_images.name
output_tensors_str = ",".join(ssd_model.output_tensor_list)

# register, convert
ws = Workspace.from_config()
registered_model = Model.register(ws, model_path="saved", model_name="ssdvgg")
convert_request = AccelOnnxConverter.convert_tf_model(ws, registered_model, input_tensors, output_tensors_str)
assert convert_request.wait_for_completion(show_output=False), convert_request.result
converted_model = convert_request.result

# deploy
aks_target = ComputeTarget.create(ws, "my-aks", AksCompute.provisioning_configuration(vm_size="Standard_PB6s"))
aks_target.wait_for_completion(show_output=True)
aks_config = AksWebservice.deploy_configuration(autoscale_enabled=False, num_replicas=1, auth_enabled=False)
aks_service = Webservice.deploy_from_model(ws, "my-service", [converted_model], None, aks_config, aks_target)
aks_service.wait_for_deployment(show_output=True)

# consume: the article's address lines
address = aks_service.scoring_uri
ssl_enabled = address.startswith("https")
address = address[address.find("/") + 2 :].strip("/")
client = PredictionClient(
    address=address, port=443 if ssl_enabled else 80, use_ssl=ssl_enabled, service_name=aks_service.name
)
result = client.score_file(path=picture, input_name=input_tensors, outputs=output_tensors_str.split(","), timeout=60)
assert [array.shape for array in result] == [(1, *ssd_model.get_output_dims(i)[1:]) for i in range(12)]
by_tensors = client.score_file(picture, input_tensors, None, 60)
assert len(by_tensors) == 12
classes, scores, bboxes = ssdvgg_utils.postprocess(result, select_threshold=None)
assert classes.shape == scores.shape == bboxes.shape[:1] and bboxes.shape[1] == 4
assert bboxes.size == 0 or (bboxes.min() >= 0 and bboxes.max() <= 1)
aks_service.delete()
aks_target.delete()
print("found", len(classes))
