"""What must hold of any graph made 16-bit or float32 again: small random graphs, by hypothesis."""

import numpy as np
import onnx
import onnx.reference
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optkit.formats.onnx.signature import read_signature
from optkit.quantization.half.cast import BFLOAT16, FLOAT, FLOAT16, FloatGraph, insert_casts, to_float32, to_half
from optkit.quantization.half.limits import unsupported
from optkit.quantization.half.verify import emulated
from optkit.quantization.half.widen import widen

SIZE = 4
HALVES = st.sampled_from([FLOAT16, BFLOAT16])
UNARY = ("Relu", "Tanh", "Sigmoid", "Identity", "Neg", "Abs", "Transpose")
BINARY = ("Add", "Mul", "MatMul", "Sub", "Max")
some = settings(max_examples=60, deadline=None, database=None)
ROUGH = {FLOAT16: 2e-2, BFLOAT16: 2e-1}
"""The largest error that rounding may cause in these graphs, whose values lie between -1 and 1."""


def value(name, elem_type=FLOAT):
    return helper.make_tensor_value_info(name, elem_type, [SIZE, SIZE])


def weight(name, seed):
    return numpy_helper.from_array(
        np.random.default_rng(seed).uniform(-0.4, 0.4, (SIZE, SIZE)).astype(np.float32), name
    )


@st.composite
def graphs(draw):
    """Float32 graphs with casts, branches, functions, overridable initializers and tensors with many consumers.

    All tensors are [4, 4]; a Tanh behind each binary operator keeps values small.
    """
    names = ["x", "w0", "w1"]
    nodes = []

    def append(op_type, inputs, **attributes):
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(op_type, inputs, [name], f"node{len(nodes)}", **attributes))
        return name

    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["unary", "binary", "binary", "cast", "branch", "function"]))
        first, second = (draw(st.sampled_from(names)) for _ in range(2))
        if kind == "unary":
            names.append(append(draw(st.sampled_from(UNARY)), [first]))
        elif kind == "binary":
            names.append(append("Tanh", [append(draw(st.sampled_from(BINARY)), [first, second])]))
        elif kind == "cast":
            double = append("Cast", [first], to=TensorProto.DOUBLE)
            names.append(append("Cast", [double], to=FLOAT))
        elif kind == "function":
            names.append(append("Both", [first, second], domain="own"))
        else:
            own = f"i{len(nodes)}"
            then = helper.make_graph([helper.make_node("Add", [first, second], [own])], "then", [], [value(own)])
            other = helper.make_graph(
                [helper.make_node("Mul", [first, "w2"], [f"{own}e"])], "else", [], [value(f"{own}e")], [weight("w2", 2)]
            )
            branch = append("If", ["yes"], then_branch=then, else_branch=other)
            names.append(append("Tanh", [branch]))
    outputs = draw(st.lists(st.sampled_from([name for name in names if name.startswith("t")]), min_size=1, unique=True))
    constants = [weight("w0", 0), weight("w1", 1), numpy_helper.from_array(np.array(draw(st.booleans())), "yes")]
    inputs = [value("x"), *([value("w1")] if draw(st.booleans()) else [])]
    body = [helper.make_node("Mul", ["x", "w0"], ["t0"]), helper.make_node("Tanh", ["t0"], ["t1"])]
    both = helper.make_function("own", "Both", ["x", "w0"], ["t1"], body, [helper.make_opsetid("", 17)])
    main = helper.make_graph(nodes, "random", inputs, [value(name) for name in outputs], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    proto = helper.make_model(main, opset_imports=opsets, ir_version=8, functions=[both])
    proto.doc_string = "random"
    helper.set_model_props(proto, {"author": "hypothesis"})
    return proto


def narrow(proto, half, excluded=()):
    before = FloatGraph(proto, half)
    kept = unsupported(before) | {each: "" for each in before.operators if each.node.name in excluded}
    return insert_casts(before, kept)


def results(proto, dtype=np.float32):
    x = np.random.default_rng(5).uniform(-1, 1, (SIZE, SIZE)).astype(dtype)
    names = [each.name for each in proto.graph.output]
    return dict(zip(names, onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x}), strict=True))


def signature(proto):
    return read_signature(proto)


@some
@given(graphs(), HALVES, st.sets(st.sampled_from([f"node{number}" for number in range(9)])))
def test_a_narrowed_graph_is_valid_keeps_its_ends_and_computes_about_the_same(proto, half, excluded):
    before = proto.SerializeToString(deterministic=True)
    made = narrow(proto, half, excluded)
    assert proto.SerializeToString(deterministic=True) == before
    assert signature(made.proto) == signature(proto)
    assert (made.proto.doc_string, made.proto.metadata_props) == (proto.doc_string, proto.metadata_props)
    assert made.proto.functions == proto.functions
    if half is FLOAT16:  # at this opset ONNX has some operators without bfloat16, and its checker says so
        onnx.checker.check_model(made.proto, full_check=True)
    expected = results(proto)
    for name, found in results(emulated(made)).items():
        np.testing.assert_allclose(found, expected[name], atol=ROUGH[half])


@some
@given(graphs(), HALVES)
def test_each_tensor_is_cast_once_and_never_to_its_own_type(proto, half):
    made = narrow(proto, half)
    casts = [node for node in made.proto.graph.node if node.name.endswith("_cast")]
    assert len({node.input[0] for node in casts}) == len(casts)
    for node in casts:
        assert (node.input[0] in made.tensors) == (node.attribute[0].i == FLOAT)


@some
@given(graphs(), HALVES)
def test_nothing_is_cast_where_all_is_kept(proto, half):
    made = narrow(proto, half, {node.name for node in proto.graph.node})
    assert made.tensors == frozenset()
    assert made.proto.graph.node == proto.graph.node
    assert made.proto.graph.initializer == proto.graph.initializer


@some
@given(graphs())
def test_a_float16_graph_made_float32_is_valid_keeps_its_ends_and_computes_the_same(proto):
    half = all_float16(proto)
    onnx.checker.check_model(half, full_check=True)
    wide = onnx.ModelProto()
    wide.CopyFrom(half)
    widen(wide)
    onnx.checker.check_model(wide, full_check=True)
    assert signature(wide) == signature(half)
    assert TensorProto.FLOAT16 not in {tensor.data_type for tensor in wide.graph.initializer}
    casts = [
        node.name for node in wide.graph.node if node.op_type == "Cast" and node.attribute[0].i == FLOAT16.elem_type
    ]
    assert all(name.endswith("_narrowed") for name in casts)
    expected = results(half, np.float16)
    for name, found in results(wide, np.float16).items():
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, expected[name], atol=ROUGH[FLOAT16])


def all_float16(proto):
    """The graph with every float32 tensor, and its inputs and outputs, in float16."""
    half = onnx.ModelProto()
    half.CopyFrom(proto)

    def convert(part):
        for each in (*part.input, *part.output):
            each.type.tensor_type.elem_type = FLOAT16.elem_type
        for tensor in part.initializer:
            if tensor.data_type == FLOAT:
                tensor.CopyFrom(to_half(tensor, FLOAT16, tensor.name))
        for node in part.node:
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == FLOAT:
                    attribute.i = FLOAT16.elem_type
                if attribute.HasField("g"):
                    convert(attribute.g)

    convert(half.graph)
    return half


@some
@given(graphs())
def test_a_graph_made_float16_and_float32_again_computes_the_same_but_for_its_rounded_constants(proto):
    made = narrow(proto, FLOAT16).proto
    stored = [tensor for tensor in made.graph.initializer if tensor.data_type == FLOAT16.elem_type]
    assert widen(made) == len(stored)
    assert signature(made) == signature(proto)
    onnx.checker.check_model(made, full_check=True)
    expected = results(proto)
    for name, found in results(made).items():
        np.testing.assert_allclose(found, expected[name], atol=ROUGH[FLOAT16])


@some
@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1), HALVES)
def test_what_a_half_type_holds_survives_the_round_trip(values, half):
    held = np.array(values, np.float32)
    if half is BFLOAT16:  # keep the bits that it has
        held = (held.view("<u4") & 0xFFFF0000).view("<f4")
    tensor = numpy_helper.from_array(held, "values")
    np.testing.assert_array_equal(numpy_helper.to_array(to_float32(to_half(tensor, half, "half"))), held)


@some
@given(st.lists(st.floats(width=32), min_size=1), HALVES)
def test_rounding_saturates_and_errs_by_half_a_step(values, half):
    given_values = np.array(values, np.float32)
    tensor = numpy_helper.from_array(given_values, "values")
    found = numpy_helper.to_array(to_float32(to_half(tensor, half, "half"))).astype(np.float64)
    finite = np.isfinite(given_values)
    np.testing.assert_array_equal(found[~finite], given_values[~finite])
    clipped = np.clip(given_values[finite].astype(np.float64), -half.largest, half.largest)
    steps = 2.0**-11 if half is FLOAT16 else 2.0**-8
    assert (np.abs(found[finite] - clipped) <= np.maximum(np.abs(clipped), half.smallest) * steps).all()
