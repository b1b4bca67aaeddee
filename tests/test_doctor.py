"""What doctor says of this machine."""

import json

import optkit


def test_doctor_names_the_targets_that_really_import():
    found = optkit.doctor()
    states = {target.name: target.error for target in found.targets}
    assert states["onnxruntime"] is None
    assert found.machine.cores_allowed > 0


def test_doctor_is_one_json_document(optkit):
    document = json.loads(optkit("doctor", "--json").stdout)
    assert document["schema"] == "optkit.doctor/1"
    assert document["machine"]["cores"] >= 1
