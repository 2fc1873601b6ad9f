"""The plain records of one instance in one second as machine code: it makes their lines.

What `LineMaker` makes of responses, made of the records as they lie in the ring. It stops at the
first that is not plain: of another instance or second, an event or a span, a margin that is no
normal number, or one for which there is no room. That one is left to Python.
"""

#: The function of `block_function`, and what it takes: addresses and numbers of 64 bits.
NAME = "line_block"
CALL = (
    "record", "records_end", "readable_end", "instance", "second_began", "second", "second_bytes",
    "usage", "usage_bytes", "line", "lines_end", "row", "rows_end", "breaks",
)  # fmt: skip
#: Those that it moves on: to the first record that it left, and behind what it made.
MOVED = ("record", "line", "row")
#: What is copied is copied in pieces of so much: that is read and written behind everything.
PIECE_BYTES = 16
#: The most of a line beside what was sent and received, and the figures of the process.
MORE_BYTES = 256
#: The fields of a record (`ring.py`), and where they lie: the score is the first of the row behind it.
_FIELDS = (
    ("size", "i32", 0), ("wide", "i32", 4), ("kind", "i32", 8), ("instance", "i64", 12),
    ("began", "i64", 20), ("ended", "i64", 28), ("number", "i64", 36), ("margin", "i64", 44),
)  # fmt: skip
_SCORE, _RECORD_BYTES, _SCORE_BYTES = 52, 60, 8
#: Kinds from here on are no responses, or some with several margins.
_OTHER = 1 << 31
_SECOND_NS = 1_000_000_000
_INFINITE, _FRACTION_BITS, _BIAS = 0x7FF, 52, 1023


def block_function() -> str:
    """The LLVM IR of `line_block` (call): how many lines it has made; `call` is what `CALL` names."""
    members = "\n".join(
        f"%at_{name} = getelementptr i64, ptr %call, i32 {i}\n%call_{name} = load i64, ptr %at_{name}"
        for i, name in enumerate(CALL)
    )
    fields = "\n".join(
        f"%at_field_{name} = getelementptr i8, ptr %p, i64 {at}\n"
        f"%{name}{'_short' if kind == 'i32' else ''} = load {kind}, ptr %at_field_{name}, align 1"
        + (f"\n%{name} = zext i32 %{name}_short to i64" if kind == "i32" else "")
        for name, kind, at in _FIELDS
    )
    return f"""
define i64 @{NAME}(ptr %call) {{
entry:
%digits = alloca [32 x i8]
{members}
%second = inttoptr i64 %call_second to ptr
%usage = inttoptr i64 %call_usage to ptr
%breaks = inttoptr i64 %call_breaks to ptr
%more_bytes = add i64 %call_usage_bytes, {MORE_BYTES}
br label %look
look:
%record = phi i64 [%call_record, %entry], [%record_end, %whole]
%line = phi i64 [%call_line, %entry], [%line_end, %whole]
%row = phi i64 [%call_row, %entry], [%row_end, %whole]
%made = phi i64 [0, %entry], [%made_more, %whole]
%head_end = add i64 %record, {_RECORD_BYTES}
%is_more = icmp ult i64 %record, %call_records_end
%is_head = icmp ule i64 %head_end, %call_readable_end
%is_record = and i1 %is_more, %is_head
br i1 %is_record, label %judge, label %done
judge:
%p = inttoptr i64 %record to ptr
{fields}
{_judged()}
br i1 %is_plain, label %begin, label %done
begin:
{_made()}
br label %whole
whole:
%line_end = ptrtoint ptr %l16 to i64
%made_more = add i64 %made, 1
br label %look
done:
store i64 %record, ptr %at_record
store i64 %line, ptr %at_line
store i64 %row, ptr %at_row
ret i64 %made
}}
{_COPIES}{_NUMBERS}"""


def _judged() -> str:
    """Whether a record is plain, and there is room."""
    conditions = "is_own is_response is_object is_whole is_now is_after is_normal is_readable is_line is_row"
    return f"""%record_end = add i64 %record, %size
%body_and_row = sub i64 %size, {_RECORD_BYTES}
%body_and = sub i64 %body_and_row, %wide
%body_bytes = sub i64 %body_and, %kind
%since = sub i64 %began, %call_second_began
%took = sub i64 %ended, %began
%bits = and i64 %margin, {2**63 - 1}
%exponent = lshr i64 %bits, {_FRACTION_BITS}
%exponent_less = sub i64 %exponent, 1
%is_normal = icmp ult i64 %exponent_less, {_INFINITE - 1}
%read_end = add i64 %record_end, {PIECE_BYTES}
%line_most = add i64 %size, %more_bytes
%line_limit = add i64 %line, %line_most
%row_most = add i64 %wide, {_SCORE_BYTES + PIECE_BYTES}
%row_limit = add i64 %row, %row_most
%is_own = icmp eq i64 %instance, %call_instance
%is_response = icmp ult i64 %kind, {_OTHER}
%is_object = icmp uge i64 %kind, 2
%is_whole = icmp sge i64 %body_bytes, 0
%is_now = icmp ult i64 %since, {_SECOND_NS}
%is_after = icmp sge i64 %took, 0
%is_readable = icmp ule i64 %read_end, %call_readable_end
%is_line = icmp ule i64 %line_limit, %call_lines_end
%is_row = icmp ule i64 %row_limit, %call_rows_end
{_all("is_plain", conditions)}"""


def _made() -> str:
    """The row and the line of a record, put behind those before."""
    return f"""%has_row = icmp ne i64 %wide, 0
%row_wide = add i64 %wide, {_SCORE_BYTES}
%row_bytes = select i1 %has_row, i64 %row_wide, i64 0
%row_from = getelementptr i8, ptr %p, i64 {_SCORE}
%row_to = inttoptr i64 %row to ptr
%row_after = call ptr @copy(ptr %row_to, ptr %row_from, i64 %row_bytes)
%row_end = ptrtoint ptr %row_after to i64
%l0 = inttoptr i64 %line to ptr
%l1 = call ptr @copy(ptr %l0, ptr %second, i64 %call_second_bytes)
%microseconds = udiv i64 %since, 1000
%milliseconds = udiv i64 %microseconds, 1000
%micro_rest = urem i64 %microseconds, 1000
%l2 = call ptr @three(ptr %l1, i64 %milliseconds)
%l3 = call ptr @three(ptr %l2, i64 %micro_rest)
{_literal("l3", "l4", b'Z",')}
%content_at = add i64 %wide, {_RECORD_BYTES}
%content = getelementptr i8, ptr %p, i64 %content_at
%content_inner = getelementptr i8, ptr %content, i64 1
%content_bytes = sub i64 %kind, 2
%l5 = call ptr @copy(ptr %l4, ptr %content_inner, i64 %content_bytes)
{_literal("l5", "l6", b',"seq":')}
%l7 = call ptr @number(ptr %l6, i64 %number, ptr %digits)
{_literal("l7", "l8", b',"margin":"')}
%l9 = call ptr @hexadecimal(ptr %l8, i64 %margin, ptr %digits)
{_literal("l9", "l10", b'","input":')}
%body = getelementptr i8, ptr %content, i64 %kind
%l11 = call ptr @copy_unbroken(ptr %l10, ptr %body, i64 %body_bytes, ptr %breaks)
{_literal("l11", "l12", b',"duration_us":')}
%took_us = udiv i64 %took, 1000
%took_rest = urem i64 %took, 1000
%l13 = call ptr @number(ptr %l12, i64 %took_us, ptr %digits)
{_literal("l13", "l14", b".")}
%l15 = call ptr @three(ptr %l14, i64 %took_rest)
%l16 = call ptr @copy(ptr %l15, ptr %usage, i64 %call_usage_bytes)"""


def _all(name: str, conditions: str) -> str:
    """Whether all of some conditions are true."""
    names = conditions.split()
    before = [names[0], *(f"{name}_{i}" for i in range(2, len(names))), name]
    steps = zip(before, before[1:], names[1:], strict=False)
    return "\n".join(f"%{step} = and i1 %{done}, %{condition}" for done, step, condition in steps)


def _literal(at: str, after: str, text: bytes) -> str:
    """Put a text at the pointer `at`; `after` is the one behind it."""
    lines = []
    for i in range(0, len(text), 8):
        word = int.from_bytes(text[i : i + 8], "little")
        lines.append(f"%{after}_{i} = getelementptr i8, ptr %{at}, i64 {i}")
        lines.append(f"store i64 {word}, ptr %{after}_{i}, align 1")
    return "\n".join([*lines, f"%{after} = getelementptr i8, ptr %{at}, i64 {len(text)}"])


_PIECE = f"<{PIECE_BYTES} x i8>"
#: What `breaks` leads to. JSON allows raw line breaks only between tokens, where a space means the same.
BREAKS = b"".join(PIECE_BYTES * one for one in (b"\n", b"\r", b" "))
_BREAKS = "\n".join(
    f"%at_{name} = getelementptr {_PIECE}, ptr %breaks, i32 {i}\n"
    f"%{name} = load {_PIECE}, ptr %at_{name}, align 1"
    for i, name in enumerate(("lf", "cr", "space"))
)
_UNBROKEN = f"""%is_lf = icmp eq {_PIECE} %piece, %lf
%is_cr = icmp eq {_PIECE} %piece, %cr
%is_break = or <{PIECE_BYTES} x i1> %is_lf, %is_cr
%put = select <{PIECE_BYTES} x i1> %is_break, {_PIECE} %space, {_PIECE} %piece
"""


def _copy(name: str, more: str, first: str, step: str, put: str) -> str:
    """A function that copies bytes, each piece as `step` makes it, and returns the pointer behind them."""
    return f"""
define internal ptr @{name}(ptr %to, ptr %from, i64 %bytes{more}) {{
entry:
{first}
br label %next
next:
%i = phi i64 [0, %entry], [%j, %next]
%source = getelementptr i8, ptr %from, i64 %i
%piece = load {_PIECE}, ptr %source, align 1
{step}%target = getelementptr i8, ptr %to, i64 %i
store {_PIECE} {put}, ptr %target, align 1
%j = add i64 %i, {PIECE_BYTES}
%is_more = icmp ult i64 %j, %bytes
br i1 %is_more, label %next, label %end
end:
%after = getelementptr i8, ptr %to, i64 %bytes
ret ptr %after
}}
"""


_COPIES = _copy("copy", "", "", "", "%piece") + _copy(
    "copy_unbroken", ", ptr %breaks", _BREAKS, _UNBROKEN, "%put"
)
#: Decimal numbers from their last digit on; `float.hex` of a normal number.
_NUMBERS = f"""
define internal ptr @three(ptr %to, i64 %value) {{
%hundreds = udiv i64 %value, 100
%rest = urem i64 %value, 100
%tens = udiv i64 %rest, 10
%ones = urem i64 %rest, 10
%tens_at = shl i64 %tens, 8
%ones_at = shl i64 %ones, 16
%two = or i64 %hundreds, %tens_at
%all = or i64 %two, %ones_at
%text = add i64 %all, {int.from_bytes(b"000", "little")}
%short = trunc i64 %text to i32
store i32 %short, ptr %to, align 1
%after = getelementptr i8, ptr %to, i64 3
ret ptr %after
}}

define internal ptr @number(ptr %to, i64 %value, ptr %digits) {{
entry:
br label %next
next:
%left = phi i64 [%value, %entry], [%tenth, %next]
%at = phi i64 [32, %entry], [%before, %next]
%tenth = udiv i64 %left, 10
%digit = urem i64 %left, 10
%digit_short = trunc i64 %digit to i8
%text = add i8 %digit_short, 48
%before = sub i64 %at, 1
%target = getelementptr i8, ptr %digits, i64 %before
store i8 %text, ptr %target
%is_more = icmp ne i64 %tenth, 0
br i1 %is_more, label %next, label %copy
copy:
%from = phi i64 [%before, %next], [%from_next, %copy]
%out = phi ptr [%to, %next], [%out_next, %copy]
%source = getelementptr i8, ptr %digits, i64 %from
%one = load i8, ptr %source
store i8 %one, ptr %out
%from_next = add i64 %from, 1
%out_next = getelementptr i8, ptr %out, i64 1
%is_left = icmp ult i64 %from_next, 32
br i1 %is_left, label %copy, label %end
end:
ret ptr %out_next
}}

define internal ptr @hexadecimal(ptr %to, i64 %bits, ptr %digits) {{
entry:
%is_negative = icmp slt i64 %bits, 0
%signed = zext i1 %is_negative to i64
store i8 {ord("-")}, ptr %to
%t0 = getelementptr i8, ptr %to, i64 %signed
{_literal("t0", "t1", b"0x1.")}
br label %next
next:
%i = phi i64 [0, %entry], [%j, %next]
%moved = mul i64 %i, 4
%shift = sub i64 {_FRACTION_BITS - 4}, %moved
%shifted = lshr i64 %bits, %shift
%digit = and i64 %shifted, 15
%is_letter = icmp ugt i64 %digit, 9
%base = select i1 %is_letter, i64 {ord("a") - 10}, i64 {ord("0")}
%text = add i64 %digit, %base
%short = trunc i64 %text to i8
%target = getelementptr i8, ptr %t1, i64 %i
store i8 %short, ptr %target
%j = add i64 %i, 1
%is_more = icmp ult i64 %j, {_FRACTION_BITS // 4}
br i1 %is_more, label %next, label %end
end:
%t2 = getelementptr i8, ptr %t1, i64 {_FRACTION_BITS // 4}
%high = lshr i64 %bits, {_FRACTION_BITS}
%biased = and i64 %high, {_INFINITE}
%exponent = sub i64 %biased, {_BIAS}
%is_small = icmp slt i64 %exponent, 0
%less = sub i64 0, %exponent
%size = select i1 %is_small, i64 %less, i64 %exponent
%sign = select i1 %is_small, i8 {ord("-")}, i8 {ord("+")}
store i8 {ord("p")}, ptr %t2
%t3 = getelementptr i8, ptr %t2, i64 1
store i8 %sign, ptr %t3
%t4 = getelementptr i8, ptr %t3, i64 1
%after = call ptr @number(ptr %t4, i64 %size, ptr %digits)
ret ptr %after
}}
"""
