"""Claims about networks of one's own: they train and are used, and no file has them imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told
from own_networks import NETS
from small_runs import TINY, write_faces

import facenet_ext.train.run
from facenet_ext import InputError
from facenet_ext.cli.train import main
from facenet_ext.embedding.loading import load_embedder
from facenet_ext.embedding.networks import build_network
from facenet_ext.embedding.options import ModelOptions, Options
from facenet_ext.models import Committee, WrappedNetwork, registry
from facenet_ext.train.draws import Rows, all_dropout

TRAIN = [*TINY, "--held-out", "0.4", "--model", "nets:resnet"]
OWN = ["--model", "nets:resnet"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of faces, nets.py, and two finished runs of its network, old/ and new/."""
    root = tmp_path_factory.mktemp("own")
    (root / "nets.py").write_text(NETS)
    faces = write_faces(root / "faces", {f"Person_{i:02d}": 4 for i in range(12)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(facenet_ext.train.run, "draw_all", lambda *_: [])
        for name, seed in (("old", "1"), ("new", "2")):
            options = ["--data", str(faces), "--seed", seed, "--output", str(root / name)]
            assert main([*TRAIN, *options]) == 0
    forget()
    return root


def forget() -> None:
    sys.modules.pop("nets", None)
    registry._REGISTERED.pop("tiny-resnet", None)


@pytest.fixture
def nets(runs: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the runs, beside nets.py in the current folder, which nothing has imported."""
    Path("nets.py").write_text(NETS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("FACENET_MODELS", raising=False)
    forget()
    yield runs
    forget()


def test_it_trains_on_the_unit_sphere_with_the_options_that_it_names(nets: Path) -> None:
    module = load_embedder(nets / "old" / "checkpoints" / "best.ckpt", "nets:resnet")
    assert module.network.network.fc.weight.shape == (8, 8)  # --embedding-dim, 2 x --width
    images = torch.randint(0, 255, (3, 1, 96, 96), dtype=torch.uint8)
    torch.testing.assert_close(module.embed(images).norm(dim=1), torch.ones(3))
    seen: list[torch.Tensor] = []
    module.network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.embed(images // 4)
    torch.testing.assert_close(seen[0].mean((1, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    assert (seen[0].std((1, 2, 3)) > 0.5).all()
    start = registry.build_own("nets:resnet", (1, 16, 16), embedding_dim=8, width=4)
    assert not torch.equal(start.network.fc.weight, module.network.network.fc.weight)
    found = module.provenance.features
    assert found is not None
    assert found.mean.shape == (8,), "the inputs of the last layer"


@pytest.mark.ci
def test_every_command_uses_it(nets: Path, command: Command) -> None:
    model, faces = ["--checkpoint", nets / "old", *OWN], nets / "faces"
    images = sorted(faces.glob("Person_00/*"))
    status, _, err = command("evaluate", *model, "--quality", 0)
    assert (status, err.count("error")) == (0, 0), err
    assert command("verify", *images[:2], *model)[0] in (0, 1)
    assert command("embed", faces, *model, "--output", "gallery")[0] == 0
    assert json.loads(Path("gallery/store.json").read_text())["model"]["network"] == "nets:resnet"
    assert command("identify", "gallery", images[0], *model)[0] in (0, 1)
    assert command("cluster", faces, *model)[0] in (0, 1)
    assert command("mine", nets / "old", *OWN)[0] in (0, 1)
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    assert command("export", nets / "old", "own.onnx", *OWN)[0] == 0
    session = onnxruntime.InferenceSession("own.onnx", providers=["CPUExecutionProvider"])
    inputs = torch.rand(3, 1, 16, 16)
    (found,) = session.run(["embeddings"], {"images": inputs.numpy()})
    module = load_embedder(nets / "old" / "checkpoints" / "best.ckpt", "nets:resnet")
    with torch.no_grad():
        np.testing.assert_allclose(found, module.network(inputs).numpy(), atol=2e-5)


def test_another_network_is_not_taken_for_it(nets: Path, command: Command) -> None:
    result = command("export", nets / "old", "own.onnx", "--model", "nets:Flat")
    assert_told(result, "the checkpoint is of another model: network.network.conv.bias is missing")
    result = command("export", nets / "old", "own.onnx", "--model", "small")
    assert_told(result, "the checkpoint is of another model")


def test_a_committee_has_several(nets: Path) -> None:
    options = Options(model=ModelOptions(model="nets:resnet", members=2, width=4, embedding_dim=8))
    with torch.random.fork_rng():
        network = build_network(options, (1, 96, 96))
        images = torch.rand(3, 1, 64, 64)
        first, second = network.eval()(images).split(8, 1)
    assert isinstance(network, Committee)
    assert not torch.allclose(first, second)


def test_one_that_onnx_cannot_say_is_told_in_a_line(nets: Path, command: Command) -> None:
    pytest.importorskip("onnxscript")
    options = ["--data", nets / "faces", "--held-out", 0.4, "--model", "nets:Branching"]
    assert command("train", *TINY, *options, "--output", "run")[0] == 0
    result = command("export", "run", "own.onnx", "--model", "nets:Branching")
    assert_told(result, "run: torch cannot write the network nets:Branching as ONNX (")
    assert not Path("own.onnx").exists()


def test_a_new_one_is_trained_to_match_an_old_one(nets: Path, command: Command) -> None:
    named = ["--old-model", "nets:resnet", "--new-model", "nets:resnet"]
    options = ["--new", nets / "new", "--layer-steps", 2, "--steps", 2, "--output", "out"]
    status, _, err = command("harmonize", nets / "old", *options, *named)
    assert (status, err) == (0, "")
    new, layer, everything = (
        load_embedder(path, "nets:resnet").network.state_dict()
        for path in (
            nets / "new" / "checkpoints" / "best.ckpt",
            Path("out/layer/checkpoints/last.ckpt"),
            Path("out/all/checkpoints/last.ckpt"),
        )
    )
    changed = {name for name in new if not torch.equal(layer[name], new[name])}
    assert changed == {"network.fc.weight", "network.fc.bias"}
    assert not torch.equal(everything["network.stem.0.weight"], new["network.stem.0.weight"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--checkpoint", "RUN"],
        ["verify", "FACE", "FACE", "--checkpoint", "RUN"],
        ["export", "RUN", "own.onnx"],
        ["mine", "RUN"],
        ["harmonize", "RUN"],
        ["train", "--resume", "RUN"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_checkpoint_alone_has_nothing_imported(
    nets: Path, command: Command, arguments: list[str]
) -> None:
    face = str(nets / "faces" / "Person_00" / "Person_00_0001.png")
    words = {"RUN": str(nets / "old"), "FACE": face}
    result = command(*(words.get(word, word) for word in arguments))
    option = "--old-model" if arguments[0] == "harmonize" else "--model"
    assert_told(result, f"give {option} nets:resnet, or set FACENET_MODELS=nets")
    assert "nets" not in sys.modules


def test_what_a_hostile_checkpoint_names_is_not_run(nets: Path, command: Command) -> None:
    path = Path("run/checkpoints/best.ckpt")
    path.parent.mkdir(parents=True)
    Path("evil.py").write_text("open('ran', 'w')\ndef main(): open('ran', 'w')\n")
    state = torch.load(nets / "old" / "checkpoints" / "best.ckpt", weights_only=True)
    for name in ("evil:main", "evil", "os:abort", "nets:resnet\nx", "a b", ["evil:main"], 3, None):
        for source in (name, "nets:resnet", None):
            state["facenet_ext"]["options"]["model"] = name
            state["facenet_ext"]["network"] = source
            torch.save(state, path)
            result = command("export", "run", "out.onnx")
            assert_told(result, "run/checkpoints/best.ckpt: ")
    assert not Path("ran").exists()
    assert {"evil", "nets"}.isdisjoint(sys.modules)


def test_the_environment_names_modules_and_functions(
    nets: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted((nets / "faces").glob("Person_00/*"))[:2]
    verify = ["verify", *images, "--checkpoint", nets / "old", "--threshold", 1]
    for value in ("nets", "nets:resnet", " nets ,"):
        monkeypatch.setenv("FACENET_MODELS", value)
        assert command(*verify)[0] in (0, 1)
        forget()
    monkeypatch.setenv("FACENET_MODELS", "nets:Flat")  # another function of it
    Path("nets.py").write_text(NETS.replace('@register("tiny-resnet")', ""))
    assert_told(command(*verify), "give --model nets:resnet")
    monkeypatch.setenv("FACENET_MODELS", "nowhere")
    assert_told(command(*verify), "FACENET_MODELS nowhere: there is no module nowhere")


def test_a_registered_name_is_one_of_the_networks(
    nets: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ["train", *TRAIN[:-1], "tiny-resnet", "--data", nets / "faces", "--output", "run"]
    assert_told(command(*train), "--model tiny-resnet: no such network; there are small, nn1")
    monkeypatch.setenv("FACENET_MODELS", "nets")
    assert command(*train)[0] == 0
    status, out, _ = command("models", "--repeats", 0, "--json", "--in-channels", 1)
    assert status == 0
    own = {row["network"]: row for row in json.loads(out)}["tiny-resnet"]
    assert own["source"] == "nets:resnet"
    assert own["input"] == [1, 112, 112]
    assert own["parameters"] == sum(
        p.numel() for p in sys.modules["nets"].resnet(1, 128, 32).parameters()
    )
    monkeypatch.delenv("FACENET_MODELS")
    forget()
    told = "somebody's own, tiny-resnet, and nothing is imported"
    assert_told(command("export", "run", "own.onnx"), told, "give --model nets:resnet, or set FACE")
    assert load_embedder(Path("run/checkpoints/best.ckpt"), "nets:resnet").options.model.width == 4


def test_the_list_takes_one_more(nets: Path, command: Command) -> None:
    options = ["--repeats", 0, "--in-channels", 1, "--input-size", 16]
    status, out, _ = command("models", *options, "--model", "nets:Flat")
    assert status == 0
    (row,) = [line.split() for line in out.splitlines() if line.startswith("nets:Flat")]
    assert row[:3] == ["nets:Flat", "1x16x16", f"{4 * 9 + 4 + 196 * 8 + 8:,}"]


def test_a_run_goes_on_with_the_network_that_it_had(nets: Path, command: Command) -> None:
    data = ["--data", nets / "faces", "--output", "run"]
    assert command("train", *TRAIN, *data, "--max-steps", 2)[0] == 0
    status, _, err = command("train", "--resume", "run", *OWN, "--max-steps", 4)
    assert (status, err) == (0, "")
    module = load_embedder(Path("run/checkpoints/last.ckpt"), "nets:resnet")
    assert module.provenance.steps == 4


def test_features_are_embedded_too(nets: Path, command: Command) -> None:
    labels = np.arange(60) // 5
    features = np.random.default_rng(0).standard_normal((60, 2, 3)).astype(np.float32)
    np.savez("f.npz", features=features, labels=labels)
    options = ["--data", "f.npz", "--model", "nets:Features", "--max-steps", 2, "--identities", 4]
    assert command("train", *options, "--embedding-dim", 4, "--output", "run")[0] == 0
    module = load_embedder(Path("run/checkpoints/last.ckpt"), "nets:Features")
    assert module.embed(torch.randn(5, 2, 3)).shape == (5, 4)


def test_one_that_refuses_channels_last_trains_without(nets: Path, command: Command) -> None:
    options = ["--data", nets / "faces", "--held-out", 0.4, "--model", "nets:Flat"]
    assert command("train", *TINY, *options, "--output", "run")[0] == 0
    module = load_embedder(Path("run/checkpoints/last.ckpt"), "nets:Flat")
    assert not module.network.channels_last
    assert load_embedder(nets / "old/checkpoints/last.ckpt", "nets:resnet").network.channels_last
    without = registry.build_own("nets:resnet", (1, 16, 16), channels_last=False)
    strides: list[bool] = []
    without.network.layer1.register_forward_pre_hook(
        lambda _, x: strides.append(x[0].is_contiguous())
    )
    without(torch.rand(2, 16, 16, 1).permute(0, 3, 1, 2))
    assert strides == [True]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("nowhere:resnet", "--model nowhere:resnet: there is no module nowhere, neither among"),
        ("nets:nothing", "--model nets:nothing: nets has no nothing"),
        ("nets:value", "--model nets:value: expected a function or a class, it is 3"),
        ("nets:needs_depth", "its arguments depth, heads are no options of a run; give them def"),
        ("nets:fails", "called with width=4 it failed (KeyError: 'no weights here')"),
        ("nets:no_module", "must return a torch.nn.Module, it returned str"),
        ("nets:Tuple", "it must return one tensor [N, D], it returned tuple"),
        ("nets:Map", "it must return [N, D] of floating point, of 2 inputs it returned [2, 4, 7"),
        ("nets:Empty", "it has no parameters to train"),
        ("nets:other_size", "called with embedding_dim=8 it returns 9 numbers"),
        ("broken:resnet", "--model broken:resnet: broken cannot be imported (NameError: name 'x'"),
        ("needy:resnet", "needy cannot be imported (No module named 'absent_package')"),
        ("smal", "--model smal: no such network; there are small, nn1"),
        ("a b", "--model a b: expected one of small, nn1, nn2, nn3, nn4, nns1, nns2, iresnet18, "),
        ("nets:", "or package.module:function; see --help"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(
    nets: Path, command: Command, model: str, told: str
) -> None:
    Path("broken.py").write_text("x")
    Path("needy.py").write_text("import absent_package")
    data = ["--data", nets / "faces", "--held-out", 0.4]
    result = command("train", *TINY, *data, "--model", model, "--output", "run")
    assert_told(result, told)
    assert not Path("run").exists()
    sys.modules.pop("broken", None)


def test_two_functions_do_not_share_a_name() -> None:
    registry.register("mine")(torch.nn.Linear)
    try:
        registry.register("mine")(torch.nn.Linear)
        with pytest.raises(ValueError, match=r"'mine' is torch\.nn\.modules\.linear:Linear"):
            registry.register("mine")(torch.nn.Conv2d)
        for name in ("small", "mlp"):
            with pytest.raises(ValueError, match="one of this package's networks"):
                registry.register(name)
        for name in ("nets:mine", "", "1st", "a b"):
            with pytest.raises(ValueError, match="expected letters, digits"):
                registry.register(name)
    finally:
        registry._REGISTERED.pop("mine")


def test_an_installed_module_comes_before_one_in_the_current_folder(
    nets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("json.py").write_text("open('ran', 'w')")
    Path("colorsys.py").write_text("open('ran', 'w')")
    with pytest.raises(InputError, match="nowhere"):
        registry.find_network("nowhere:resnet")
    sys.modules.pop("colorsys", None)
    with pytest.raises(InputError, match="colorsys has no resnet"):
        registry.find_network("colorsys:resnet")
    assert not Path("ran").exists()


def test_the_last_layer_and_what_follows_it_are_found() -> None:
    def wrapped(*layers: torch.nn.Module) -> WrappedNetwork:
        return WrappedNetwork(torch.nn.Sequential(*layers), (1, 4, 4))

    flat, last = torch.nn.Flatten(), torch.nn.Linear(16, 3)
    assert wrapped(flat, last).head == ["network.1"]
    assert wrapped(flat, last, torch.nn.BatchNorm1d(3)).head == ["network.1", "network.2"]
    assert wrapped(torch.nn.Conv2d(1, 3, 4), flat).head == ["network.0", "network.1"]
    bare = torch.nn.Module()
    bare.weight = torch.nn.Parameter(torch.rand(16, 3))
    bare.forward = lambda x: x.flatten(1) @ bare.weight  # type: ignore[method-assign]
    bare.activation = torch.nn.ReLU()
    network = WrappedNetwork(bare, (1, 4, 4))
    assert network.head == []
    seen: list[torch.Tensor] = []
    network.on_features(seen.append)
    network(torch.rand(2, 1, 4, 4))
    assert seen[0].shape == (2, 3)


def test_wrapping_leaves_random_numbers_and_averages_alone() -> None:
    own = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.LazyLinear(4), torch.nn.BatchNorm1d(4), torch.nn.Dropout()
    )
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    network = WrappedNetwork(own, (1, 4, 4))
    assert torch.equal(torch.rand(3), expected)
    assert network.training
    assert own[2].num_batches_tracked == 0
    assert not any(module._forward_hooks for module in network.modules())


def test_all_dropout_layers_draw_for_the_whole_batch() -> None:
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(16, 3))
    network = WrappedNetwork(own, (1, 4, 4))
    (layer,) = all_dropout(network)
    assert own[1] is layer
    images = torch.rand(4, 1, 4, 4)
    torch.manual_seed(0)
    whole = network(images)
    torch.manual_seed(0)
    layer.begin()
    parts = []
    for begin in (0, 2):
        layer.rows = Rows(begin, begin + 2, 4)
        parts.append(network(images[begin : begin + 2]))
    torch.testing.assert_close(torch.cat(parts), whole)
