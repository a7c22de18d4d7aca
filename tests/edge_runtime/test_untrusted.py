"""Bundles and profiles that somebody made to do harm: each is refused, within bounds of its own."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import os
import re
import struct
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float_graph import float_dense

from conversion.head import whole_head
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.arrays import read_npy, unpacked
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError, EngineError, ProfileError
from edge_runtime.graph import Graph
from edge_runtime.graph_check import check_graph
from edge_runtime.manifest import AUDIO_ENCODER, HEAD
from edge_runtime.profile import Profile, load_profile

PATIENCE = 60.0  # seconds until something hangs
MANY = 50_000_000  # bytes of a bomb
FEW = 30_000_000  # bytes that a bundle of 7 MB may take while it is read
Change = Callable[[Any], object]


def refusal(source: Path) -> str:
    """The one line by which `source` is refused, in time."""
    found: list[BaseException | None] = []

    def attempt() -> None:
        try:
            load_bundle(source)
            found.append(None)
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it waits"
    assert isinstance(found[0], BundleError), found
    assert str(found[0]).isprintable()
    return str(found[0])


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails where Python allocates more than a bundle needs."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < FEW
    finally:
        tracemalloc.stop()


def zipped(folder: Path, **members: Any) -> Path:
    """A .zip of a bundle's folder, next to it; `head` is how its member is written."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as opened:
        for file in sorted(folder.iterdir()):
            if file.name != "head.tflite" or not members:
                opened.write(file, file.name)
        for info, content in members.values():
            opened.writestr(info, content)
    return archive


def bomb(folder: Path, method: int) -> Path:
    """A .zip of a bundle's folder whose head unpacks to `MANY` bytes."""
    info = zipfile.ZipInfo("head.tflite")
    info.compress_type = method
    return zipped(folder, head=(info, bytes(MANY)))


def promise(archive: Path, size: int) -> None:
    """Have the bomb in it say that it has `size` bytes."""
    content = archive.read_bytes()
    assert content.count(struct.pack("<I", MANY)) == 2
    archive.write_bytes(content.replace(struct.pack("<I", MANY), struct.pack("<I", size)))


@pytest.mark.parametrize("name", ["manifest.json", "head.tflite"])
def test_a_pipe_in_a_folder_is_not_opened(bundle_copy: Path, name: str) -> None:
    (bundle_copy / name).unlink()
    os.mkfifo(bundle_copy / name)
    assert f"cannot read {name}: it is no ordinary file" in refusal(bundle_copy)


def test_a_pipe_is_no_bundle_and_no_profile(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither a bundle directory nor a .zip" in refusal(tmp_path / "pipe")
    with pytest.raises(ProfileError, match="no ordinary file"):
        load_profile(tmp_path / "pipe")


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "../outside", "../../outside"])
def test_a_link_that_leads_out_of_a_folder_is_not_followed(bundle_copy: Path, target: str) -> None:
    (bundle_copy.parent / "outside").write_bytes((bundle_copy / "head.tflite").read_bytes())
    (bundle_copy / "head.tflite").unlink()
    (bundle_copy / "head.tflite").symlink_to(target)
    assert "cannot read head.tflite: it is a link that leads out" in refusal(bundle_copy)


def test_links_within_a_folder_and_to_it_are_followed(bundle_copy: Path) -> None:
    (bundle_copy / "head.tflite").rename(bundle_copy / "other")
    (bundle_copy / "head.tflite").symlink_to("other")
    link = bundle_copy.parent / "link"
    link.symlink_to(bundle_copy)
    assert load_bundle(link).manifest.labels


def test_what_was_hashed_is_what_runs(bundle_copy: Path) -> None:
    """Whoever writes into the folder after the check changes nothing that is used."""
    loaded = load_bundle(bundle_copy)
    rows = loaded.embeddings().rows(np.arange(50))
    for name in ("embeddings.npy", "head.tflite"):
        content = bytearray((bundle_copy / name).read_bytes())
        content[2000:4000] = bytes(2000)
        (bundle_copy / name).write_bytes(content)
    assert np.array_equal(loaded.embeddings().rows(np.arange(50)), rows)
    with pytest.raises(BundleError, match=r"head\.tflite is damaged"):
        EmotionStream(loaded)


def test_a_file_that_is_cut_while_it_is_in_use_changes_no_verdict(
    bundle_copy: Path, bundle: Bundle
) -> None:
    """A mapped file would end the process there, by SIGBUS."""
    loaded = load_bundle(bundle_copy)
    graph = loaded.open_graph(HEAD)
    zeros = [np.zeros(spec.shape, spec.dtype) for spec in graph.inputs]
    for name in ("head.tflite", "embeddings.npy"):
        os.truncate(bundle_copy / name, 0)
    assert np.array_equal(graph(*zeros)[0], bundle.open_graph(HEAD)(*zeros)[0])
    assert loaded.embeddings().rows(np.arange(3)).any()


def test_all_files_together_are_bounded(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.bundle_files.MOST_TOTAL", 3_000_000)
    assert "larger than the" in refusal(bundle_copy)
    assert "at most 3,000,000 bytes" in refusal(zipped(bundle_copy))


def test_a_zip_bomb_is_not_unpacked(bundle_copy: Path) -> None:
    archive = bomb(bundle_copy, zipfile.ZIP_DEFLATED)
    with little_memory():
        assert "bytes that unpack to 50,000,000" in refusal(archive)


def test_a_zip_bomb_that_promises_little_unpacks_to_what_it_promises(bundle_copy: Path) -> None:
    archive = bomb(bundle_copy, zipfile.ZIP_DEFLATED)
    promise(archive, 1_804_864)
    with little_memory():
        assert "cannot read head.tflite: Bad CRC-32" in refusal(archive)


def test_methods_that_unpack_without_bounds_are_refused(bundle_copy: Path) -> None:
    archive = bomb(bundle_copy, zipfile.ZIP_BZIP2)
    assert len(bz2.compress(bytes(MANY))) < 1000
    promise(archive, 1000)
    with little_memory():
        assert "packed in another way than deflate" in refusal(archive)


def test_a_member_that_is_there_twice_a_link_or_encrypted_is_refused(bundle_copy: Path) -> None:
    head = (bundle_copy / "head.tflite").read_bytes()
    link = zipfile.ZipInfo("head.tflite")
    link.external_attr = 0o120777 << 16
    assert "it is a link" in refusal(zipped(bundle_copy, head=(link, "/etc/passwd")))
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped(bundle_copy, head=("head.tflite", head), again=("head.tflite", b"other"))
    assert "it is in the archive 2 times" in refusal(twice)
    archive = zipped(bundle_copy)
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        content[opened.getinfo("head.tflite").header_offset + 6] |= 1
    central = content.rindex(b"head.tflite") - 46
    content[central + 8] |= 1
    archive.write_bytes(content)
    assert "cannot read head.tflite: it is encrypted" in refusal(archive)


def test_an_archive_of_too_many_files_is_refused(bundle_copy: Path) -> None:
    many = {f"m{n}": (f"notes/{n}", b"") for n in range(1001)}
    head = (bundle_copy / "head.tflite").read_bytes()
    archive = zipped(bundle_copy, **many, head=("head.tflite", head))
    assert "files are no bundle's" in refusal(archive)
    long = {f"m{n}": (f"{n}/" + "x" * 60_000, b"") for n in range(20)}
    archive = zipped(bundle_copy, **long, head=("head.tflite", head))
    assert "its list of files is too long" in refusal(archive)


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 9999), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(9)),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", bytes(16)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", bytes(8)),
        npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }", bytes(8)),
        npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", bytes(8)),
        npy("(" * 100),
        b"\x93NUMPY\x01\x00\xff\xff",
        b"",
    ],
)
def test_an_array_whose_head_lies_is_refused_before_anything_is_made_of_it(content: bytes) -> None:
    with little_memory(), pytest.raises(ValueError, match=r"no \.npy file|bytes, but"):
        read_npy(content)


def test_what_numpy_writes_is_read_without_a_copy() -> None:
    for shape in ((), (3,), (2, 3), (0, 4)):
        for dtype in (np.int8, np.float16, np.float32):
            values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
            file = io.BytesIO()
            np.save(file, values)
            found = read_npy(file.getvalue())
            assert found.dtype == values.dtype
            assert np.array_equal(found, values)
            assert found.shape == shape
            assert not found.flags.owndata


def test_arrays_that_promise_little_and_hold_much_are_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("bias.npy", bytes(MANY))
    lying = file.getvalue().replace(struct.pack("<I", MANY), struct.pack("<I", 1000))
    with little_memory(), pytest.raises(ValueError, match=r"no \.npz file: Bad CRC-32"):
        unpacked(lying, ["bias"], "a test")


def changed_graph(content: bytes, change: Change) -> bytes:
    """A graph with something in it changed, written again."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    change(model)
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def set_operation(number: int) -> Change:
    def change(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.customCode = "Theirs" if number == 32 else None

    return change


def set_tensor(**values: Any) -> Change:
    return lambda model: vars(model.subgraphs[0].tensors[-1]).update(values)


def set_operator(**values: Any) -> Change:
    return lambda model: vars(model.subgraphs[0].operators[0]).update(values)


def set_steps(**values: Any) -> Change:
    return lambda model: vars(model.subgraphs[0].tensors[4].quantization).update(values)


HARMS: list[tuple[str, Change, str]] = [
    ("custom", set_operation(32), "operation 32 of the schema has no place"),
    ("if", set_operation(118), "operation 118"),
    ("while", set_operation(119), "operation 119"),
    ("call once", set_operation(129), "operation 129"),
    ("a variable", set_operation(142), "operation 142"),
    ("StableHLO's while", set_operation(200), "operation 200"),
    ("two graphs", lambda m: m.subgraphs.append(m.subgraphs[0]), "holds 2 graphs"),
    ("text", set_tensor(type=5), "holds no numbers"),
    ("a resource", set_tensor(type=13), "holds no numbers"),
    ("state", set_tensor(isVariable=True), "is a variable"),
    ("endless", set_tensor(shape=[1 << 20, 1 << 20]), "elements of tensors"),
    ("negative", set_tensor(shape=[-4, 4]), "has shape (-4, 4)"),
    ("nothing", lambda m: vars(m.subgraphs[0].tensors[4]).update(shape=[1, 0]), "shape (1, 0)"),
    ("before it is computed", set_operator(inputs=[6, 1, 2]), "reads tensor 6 before"),
    ("itself", set_operator(inputs=[3, 1, 2]), "reads tensor 3 before"),
    ("no weights", set_operator(inputs=[0, -1, 2]), "names a tensor that is none"),
    ("too few", set_operator(inputs=[0]), "FULLY_CONNECTED has 1 inputs"),
    ("weights that are none", set_operator(inputs=[0, 0, 2]), "no constants"),
    ("another's bias", set_operator(inputs=[0, 1, 5]), "has a bias of (4,)"),
    ("over weights", set_operator(outputs=[2]), "writes tensor 2, which is there"),
    ("another's options", set_operator(builtinOptionsType=1), "options of another operation"),
    ("no step", set_steps(scale=[0.0]), "steps that cannot be meant"),
    ("no number", set_steps(scale=[float("nan")]), "steps that cannot be meant"),
    ("below", set_steps(scale=[-1.0]), "steps that cannot be meant"),
    ("far zero", set_steps(zeroPoint=[1 << 40]), "steps that cannot be meant"),
    ("steps of channels", set_steps(scale=[0.1] * 3, zeroPoint=[0] * 3), "cannot be meant"),
    ("output of nothing", lambda m: m.subgraphs[0].operators.pop(), "never computed"),
    ("many axes", set_tensor(shape=[1] * 9), "numbers in a list"),
    ("no tensor", set_operator(inputs=[0, 9999, -1]), "names a tensor that is none of its"),
    ("no output", set_operator(outputs=[-1]), "names a tensor that is none of its"),
    ("no kind", set_operator(opcodeIndex=99), "of no kind that the graph lists"),
    ("no buffer", set_tensor(buffer=99), "points outside itself"),
    ("long list", set_operator(inputs=[0] * 2000), "numbers in a list"),
    ("far values", lambda m: setattr(m.buffers[1], "offset", 5000), "behind its end"),
]


@pytest.mark.parametrize(("change", "words"), [h[1:] for h in HARMS], ids=[h[0] for h in HARMS])
def test_a_graph_of_more_than_arithmetic_is_not_given_to_an_interpreter(
    bundle: Bundle, change: Change, words: str
) -> None:
    content = changed_graph(whole_head(bundle.contents[HEAD]), change)
    with pytest.raises(ValueError, match=re.escape(words)):
        check_graph(content, "tflite")


def test_the_graphs_in_the_box_are_arithmetic(bundle: Bundle) -> None:
    for role in bundle.manifest.graphs:
        check_graph(bundle.contents[role], "tflite")
    check_graph(changed_graph(bundle.contents[HEAD], lambda model: None), "tflite")


def test_a_cut_graph_is_refused_wherever_it_is_cut(bundle: Bundle) -> None:
    content = bundle.contents["attention"]
    for size in range(8, len(content) - 400, 31):
        with pytest.raises(ValueError, match=r"^[a-z]"):
            check_graph(content[:size], "tflite")


def test_an_onnx_graph_keeps_its_values_in_itself(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", kind, [1, 4])],
        [helper.make_tensor_value_info("y", kind, [1, 3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    check_graph(model.SerializeToString(), "onnx")
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ValueError, match="keeps values in another file"):
        check_graph(path.read_bytes(), "onnx")


@pytest.mark.parametrize(
    "values", [{"strideW": 2}, {"strideW": 0}, {"dilationWFactor": 3}, {"padding": 0}]
)
def test_a_convolution_of_another_shape_than_its_output_is_refused(
    bundle: Bundle, values: dict[str, int]
) -> None:
    """LiteRT reads beyond a tensor there, and the process ends."""

    def change(model: Any) -> None:
        first = next(o for o in model.subgraphs[0].operators if o.builtinOptionsType == 1)
        vars(first.builtinOptions).update(values)

    with pytest.raises(ValueError, match="CONV_2D makes no"):
        check_graph(changed_graph(bundle.contents[AUDIO_ENCODER], change), "tflite")


def with_head(folder: Path, content: bytes, head: dict[str, Any]) -> None:
    """Put another head into a bundle, with its right hash and what describes it."""
    raw = json.loads((folder / "manifest.json").read_text())
    (folder / "head.tflite").write_bytes(content)
    raw["graphs"]["head"] = {**head, "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(raw))


def test_a_bundle_with_such_a_graph_and_its_right_hash_is_refused(bundle_copy: Path) -> None:
    head = json.loads((bundle_copy / "manifest.json").read_text())["graphs"]["head"]
    content = (bundle_copy / "head.tflite").read_bytes()
    with_head(bundle_copy, changed_graph(content, set_operation(119)), head)
    loaded = load_bundle(bundle_copy)
    with pytest.raises(BundleError, match=r"head\.tflite: operation 119 of the schema"):
        EmotionStream(loaded)


def test_scores_that_are_no_numbers_are_no_verdict(bundle_copy: Path) -> None:
    head = json.loads((bundle_copy / "manifest.json").read_text())["graphs"]["head"]
    for spec in (*head["inputs"], *head["outputs"]):
        spec.update(dtype="float32", scale=0.0, zero_point=0)
    content = float_dense(head["inputs"][0], head["outputs"][0], float("nan"))
    Graph(content)
    with_head(bundle_copy, content, head)
    stream = EmotionStream(load_bundle(bundle_copy))
    with pytest.raises(EngineError, match="scores that are no numbers"):
        stream.recognizer.judge_text("so happy")


@pytest.mark.parametrize(
    ("field", "value"), [("made", "\x1b]0;mine\x07"), ("made", ["x"]), ("bundle", "a\nb")]
)
def test_a_profile_steers_no_terminal(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "anna.json"
    Profile("0" * 64, "2026-01-01", 10.0, 3.0, np.ones(8, np.float32)).save(path)
    assert load_profile(path).seconds == 10.0
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, field: value}))
    with pytest.raises(ProfileError, match="no plain text of one line") as refused:
        load_profile(path)
    assert str(refused.value).isprintable()
    path.write_text(json.dumps(raw)[:-1] + ', "seconds": 1}')
    with pytest.raises(ProfileError, match="is not JSON"):
        load_profile(path)


def test_a_bundle_in_a_folder_of_an_archive_that_climbs_writes_nothing(
    bundle_copy: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "climbs.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for file in bundle_copy.iterdir():
            opened.write(file, f"../../evil/{file.name}")
    before = sorted(tmp_path.rglob("*"))
    load_bundle(archive)
    assert sorted(tmp_path.rglob("*")) == before
