"""Machine code of LLVM IR: what needs the compiler."""

import re

import llvmlite.binding as llvm

from server.compiled.forest import NotCompilable

#: Sections of what lies elsewhere: constants, and places in the code that are yet to be filled.
_BESIDE = re.compile(rb"\.rodata|\.rela?\.l?text")


def machine_code(text: str) -> bytes:
    """The code of some LLVM IR for any processor of this kind; it begins with the first function.

    Raises `NotCompilable` where it needs something beside it, such as constants.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, reloc="pic", codemodel="small")
    content = machine.emit_object(llvm.parse_assembly(text))
    made = llvm.ObjectFileRef.from_data(content)
    code = b""
    for section in made.sections():  # each is good until the next
        if section.is_text():
            code += section.data()
        elif _BESIDE.match(section.name() or b""):
            raise NotCompilable("its code is not whole in itself")
    return code
