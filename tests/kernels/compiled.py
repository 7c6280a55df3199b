"""What Triton makes of the kernels for NVIDIA GPUs, found without one: `python -m tests.kernels.compiled`.

Run it without TRITON_INTERPRET. It compiles every entry of `KERNELS`, or those whose names are given, for every
capability, prints a table, and ends with one line of JSON.
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
"""What the launcher says of a pointer or an integer that is a multiple of 16."""
SYNCHRONIZING = re.compile(r"\b(atom|red|fence|membar)\.")
"""What in PTX makes a look at the machine code, which takes a second, worth it; so does a stack."""
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);")


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What stands in one kernel's machine code, and how many registers it may have."""

    name: str
    capability: int
    registers: int
    most_registers: int
    shared: int
    spilled: int
    barriers: int
    fences: int
    returning_atomics: int
    reductions: int


def compile_kernel(kernel: Kernel, capability: int, folder: Path) -> Code:
    """One kernel's machine code for one capability, looked through."""
    target, options = GPUTarget("cuda", capability, 32), {"num_warps": kernel.warps, "num_stages": kernel.stages}
    compiled = triton.compile(source(kernel), target=target, options=options)
    path = folder / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    usage = {key: int(number) for key, number in re.findall(r"(\w+):(\d+)", dump("-res-usage", path))}
    ptx = compiled.asm["ptx"]
    look = SYNCHRONIZING.search(ptx) or usage["STACK"] or usage["LOCAL"]
    instructions = INSTRUCTION.findall(dump("-sass", path)) if look else []
    # An atomic whose result nobody wants writes it to the register that is always zero, or nowhere.
    atomics = [where for name, where in instructions if re.match(r"ATOM[GS]?\b", name)]
    return Code(
        name=kernel.name,
        capability=capability,
        registers=usage["REG"],
        most_registers=kernel.registers,
        shared=compiled.metadata.shared,
        spilled=sum(name.startswith(("LDL", "STL")) for name, _ in instructions),
        barriers=len(re.findall(r"\bbar(?:rier)?\.sync", ptx)),
        # One among a program's own threads, before matrix units read what they wrote, holds up nobody else.
        fences=sum(name.startswith("MEMBAR") and not name.endswith(".CTA") for name, _ in instructions),
        returning_atomics=sum(not re.match(r"\s+(P\w+,\s+)?RZ\b", where) for where in atomics),
        reductions=sum(bool(re.match(r"REDG?\b", name)) for name, _ in instructions),
    )


def source(kernel: Kernel) -> ASTSource:
    """A kernel with the types of a call, as Triton's launcher would give them to the compiler."""
    names = kernel.function.arg_names
    types = [kernel.arguments.get(name, "constexpr") for name in names]
    constants = {(i,): kernel.constants.get(name) for i, name in enumerate(names) if types[i] == "constexpr"}
    signature = {name: kind.removesuffix(":16") for name, kind in zip(names, types, strict=True)}
    attributes = {(i,): ALIGNED for i, kind in enumerate(types) if kind.endswith(":16")}
    return ASTSource(kernel.function, signature, constants, attributes)


def dump(what: str, path: Path) -> str:
    """What the disassembler that comes with Triton says of a file."""
    return subprocess.run([TOOL, what, path], check=True, capture_output=True, text=True).stdout


def main(chosen: list[str]) -> None:
    """Print a table, then the same as JSON."""
    codes, wanted = [], [kernel for kernel in KERNELS if not chosen or kernel.name in chosen]
    jobs = [(kernel.name, capability) for kernel in wanted for capability in kernel.capabilities]
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
