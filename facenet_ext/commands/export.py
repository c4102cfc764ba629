"""``facenet export``: a trained network as ONNX."""

from __future__ import annotations

import json
from pathlib import Path

from facenet_ext._extras import how_to_install
from facenet_ext._network_names import BUILT_IN
from facenet_ext.commands.options import ExportOptions
from facenet_ext.common.console import make_console
from facenet_ext.common.errors import InputError
from facenet_ext.embedding.loading import checkpoint_path, load_embedder
from facenet_ext.models import export_onnx


def execute(options: ExportOptions) -> None:
    """Do what the command line says."""
    module = load_embedder(checkpoint_path(options.checkpoint), options.model)
    if Path(options.output).is_dir() or not Path(options.output).name:
        raise InputError(f"{options.output}: a folder; give the name of a file to write")
    try:
        export_onnx(module.network, options.output, module.head)
    except ModuleNotFoundError as missing:
        raise InputError(how_to_install(missing.name or "a package", "onnx")) from None
    except OSError as error:
        raise InputError(f"{options.output}: cannot be written ({error.strerror})") from None
    except Exception as error:
        if module.options.model.model in BUILT_IN:
            raise
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise InputError(
            f"{options.checkpoint}: torch cannot write the network {module.options.model.model} "
            f"as ONNX ({reason}); torch.export shows where: FACENET_TRACEBACK=1"
        ) from error
    size = Path(options.output).stat().st_size / 1e6
    if options.json:
        figures = {
            "output": options.output,
            "bytes": Path(options.output).stat().st_size,
            "input": list(module.network.input_shape),
            "embedding_dim": module.embedding_dim,
        }
        print(json.dumps(figures, indent=2))
        return
    shape = "x".join(map(str, module.network.input_shape))
    make_console().print(
        f"{options.output}: {size:.1f} MB, inputs of {shape}, embeddings of {module.embedding_dim}",
        soft_wrap=True,
    )
