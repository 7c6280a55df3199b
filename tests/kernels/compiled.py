"""Compile the Triton kernels for NVIDIA GPUs without a GPU: `python -m tests.kernels.compiled [NAME ...]`.

Run it without TRITON_INTERPRET. It compiles every entry of `KERNELS`, or the named ones, for every compute capability,
prints a table, and ends with one line of JSON.
"""

import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from blocknerf.kernels.threads import available_cores
from tests.kernels.compiled_kernels import KERNELS, Kernel

TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
ALIGNED = [["tt.divisibility", 16]]
"""Attribute by which the launcher marks a pointer or an integer that is a multiple of 16."""
SYNCHRONIZING = re.compile(r"\b(atom|red|fence|membar)\.")
"""PTX instructions that require disassembling the machine code, which takes a second; so does a stack."""
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Statistics of a kernel's machine code, and its register limit."""

    name: str
    capability: int
    registers: int
    max_registers: int
    shared: int
    spilled: int
    barriers: int
    fences: int
    returning_atomics: int
    reductions: int


def compile_kernel(kernel: Kernel, capability: int, folder: Path) -> Code:
    """Compile a kernel for one compute capability and analyze its machine code."""
    target, options = GPUTarget("cuda", capability, 32), {"num_warps": kernel.warps, "num_stages": kernel.stages}
    compiled = triton.compile(source(kernel), target=target, options=options)
    path = folder / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    usage = {key: int(number) for key, number in re.findall(r"(\w+):(\d+)", dump("-res-usage", path))}
    ptx = compiled.asm["ptx"]
    disassemble = SYNCHRONIZING.search(ptx) or usage["STACK"] or usage["LOCAL"]
    instructions = INSTRUCTION.findall(dump("-sass", path)) if disassemble else []
    # An atomic with an unused result writes it to the zero register, or nowhere.
    atomics = [operands for name, operands in instructions if re.match(r"ATOM[GS]?\b", name)]
    return Code(
        name=kernel.name,
        capability=capability,
        registers=usage["REG"],
        max_registers=kernel.registers,
        shared=compiled.metadata.shared,
        spilled=sum(name.startswith(("LDL", "STL")) for name, _ in instructions),
        barriers=len(re.findall(r"\bbar(?:rier)?\.sync", ptx)),
        # A fence within a program (CTA), before matrix units read its writes, does not delay other programs.
        fences=sum(name.startswith("MEMBAR") and not name.endswith(".CTA") for name, _ in instructions),
        returning_atomics=sum(not re.match(r"\s+(P\w+,\s+)?RZ\b", operands) for operands in atomics),
        reductions=sum(bool(re.match(r"REDG?\b", name)) for name, _ in instructions),
    )


def source(kernel: Kernel) -> ASTSource:
    """Return a kernel with argument types, as Triton's launcher passes them to the compiler."""
    names = kernel.function.arg_names
    types = [kernel.arguments.get(name, "constexpr") for name in names]
    constants = {(i,): kernel.constants.get(name) for i, name in enumerate(names) if types[i] == "constexpr"}
    signature = {name: type_name.removesuffix(":16") for name, type_name in zip(names, types, strict=True)}
    attributes = {(i,): ALIGNED for i, type_name in enumerate(types) if type_name.endswith(":16")}
    return ASTSource(kernel.function, signature, constants, attributes)


def dump(option: str, path: Path) -> str:
    """Return the output of Triton's disassembler for a file."""
    return subprocess.run([TOOL, option, path], check=True, capture_output=True, text=True).stdout


def main(names: list[str]) -> None:
    """Print a table, then the same data as JSON."""
    codes, kernels = [], [kernel for kernel in KERNELS if not names or kernel.name in names]
    jobs = [(kernel.name, capability) for kernel in kernels for capability in kernel.capabilities]
    with ProcessPoolExecutor(available_cores(), mp_context=get_context("spawn")) as pool:
        for code in pool.map(_compile, jobs):
            if not codes:
                print(f"{'name':30}", *list(code)[1:])
            columns = [f"{value:>{len(key)}}" for key, value in list(code.items())[1:]]
            print(f"{code['name']:30}", *columns, flush=True)
            codes.append(code)
    print(json.dumps(codes))


def _compile(job: tuple[str, int]) -> dict[str, Any]:
    kernel = next(kernel for kernel in KERNELS if kernel.name == job[0])
    with tempfile.TemporaryDirectory() as folder:
        return asdict(compile_kernel(kernel, job[1], Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
