"""What a process that a test starts can do without: torch's compiler, and waiting for the disk.

Call this after `import torch`, before anything is trained. The first optimizer would load the compiler, which
takes as long as torch itself. No figure depends on either; a run that is killed loses nothing that the
machine still holds.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any


def lighten() -> None:
    """Leave out torch's compiler and fsync. Not for a process that compiles a model or trains with other
    ranks.
    """
    compiler: Any = ModuleType("torch._dynamo")
    compiler.disable = lambda function=None, *arguments, **named: function
    compiler.graph_break = lambda *arguments, **named: None
    compiler.is_compiling = lambda: False
    generator: Any = ModuleType("torch._inductor")
    generator.config = ModuleType("torch._inductor.config")
    sys.modules |= {module.__name__: module for module in (compiler, generator, generator.config)}
    os.fsync = lambda handle: None
