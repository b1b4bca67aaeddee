"""The contract of a target, over the table: its options, formats, libraries and precisions.

A new runtime is tested by its line in the table; ``test_target_session.py`` opens models on it.
"""

import json

import pytest

from optkit import lazy
from optkit.errors import MissingLibraryError, UsageError
from optkit.formats.model import TORCH_FORMATS
from optkit.quantization.quantizer import QUANTIZERS
from optkit.targets.table import TARGETS
from optkit.targets.target import target

FORMATS = {*TORCH_FORMATS, "onnx", "openvino", "tensorrt"}


@pytest.fixture(params=TARGETS)
def runtime(request):
    return target(request.param)


def test_it_is_known_by_its_name_with_formats_and_libraries_that_exist(runtime):
    assert TARGETS[runtime.name].partition(":")[2] == type(runtime).__name__
    assert runtime.formats
    assert set(runtime.formats) <= FORMATS
    assert {runtime.extra, *(each.extra for each in runtime.libraries)} <= {None, *lazy.EXTRAS}
    assert all(module.isidentifier() for module in runtime.modules)


def test_every_option_is_documented_and_thread_options_are_options(runtime):
    fields = lazy.load(runtime.options_model).model_fields
    assert all(field.description for field in fields.values())
    assert set(runtime.thread_options) <= set(fields)


def test_its_own_options_fit_its_model_and_come_back_as_they_went(runtime):
    try:
        options = runtime.default_options(threads=2)
    except MissingLibraryError:
        pytest.skip(f"{runtime.name} is not installed")
    parallel = [runtime.parallel_options(threads=2, sessions=sessions) for sessions in (1, 3)]
    for each in (options, *parallel, runtime.half_options(), *runtime.variants().values()):
        assert runtime.checked(each) == each == json.loads(json.dumps(each))
    assert runtime.default_options(threads=2) == options


def test_a_wrong_option_is_refused_in_one_line(runtime):
    model = lazy.load(runtime.options_model)
    wrong = [{name: 1j} for name in model.model_fields] + [{"something_new": 1j}]
    for options in wrong:
        with pytest.raises(UsageError, match=next(iter(options))) as caught:
            runtime.checked(options)
        assert "\n" not in caught.value.message
    if model.model_config["extra"] == "forbid":
        name = next(iter(model.model_fields))
        with pytest.raises(UsageError) as caught:
            runtime.checked({f"{name}s": 1})
        assert f"did you mean '{name}'?" in caught.value.hint


def test_an_unknown_device_is_refused_in_one_line(runtime):
    with pytest.raises(UsageError, match=runtime.name) as caught:
        runtime.device_options("abacus")
    assert "\n" not in caught.value.message


def test_every_precision_has_its_quantizers_or_a_reason(runtime):
    precisions = runtime.precisions
    assert all(maker.key in QUANTIZERS for makers in precisions.makers.values() for maker in makers)
    assert all(precisions.makers.values())
    assert not set(precisions.makers) & set(precisions.refused)
    for engine in precisions.engines:
        assert any(key.startswith(f"{engine}-") for key in QUANTIZERS)
