; Calls of LAPACK for each matrix of a batch, with the kernel ABI, for one element type; lapack.py fills in the $$names.
;
;   args   the operands, the last of which is scratch memory; then the run
;   sizes  how many operands, results and calls; bytes of scratch memory per thread; matrices between safepoints; then
;          each result:  operand, bytes of a matrix, the byte that it is filled with after a failure
;          each call:    function, whether it runs after a failure, how many arguments, then
;          each argument: operand (0: none, 1: the first, ...), byte offset, bytes from one matrix to the next
;
; An iteration is one matrix. An argument is the address of the operand for this matrix, or the offset itself. Functions
; get 24 arguments, of which they read as many as they have. Scratch memory begins with LAPACK's `info`: after a call
; that sets it, the results are NaN (all bits are set), or 0 where they are integers, and only calls that are marked so are run.

declare i1 @safepoint(ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)

define void @batch(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
entry:
  %bases = alloca [24 x i64]
  %values = alloca [24 x i64]
  %n.operands = load i64, ptr %sizes
  %n.results.at = getelementptr i64, ptr %sizes, i64 1
  %n.results = load i64, ptr %n.results.at
  %n.calls.at = getelementptr i64, ptr %sizes, i64 2
  %n.calls = load i64, ptr %n.calls.at
  %scratch.bytes.at = getelementptr i64, ptr %sizes, i64 3
  %scratch.bytes = load i64, ptr %scratch.bytes.at
  %interval.at = getelementptr i64, ptr %sizes, i64 4
  %interval = load i64, ptr %interval.at
  %results = getelementptr i64, ptr %sizes, i64 5
  %results.words = mul i64 %n.results, 3
  %calls = getelementptr i64, ptr %results, i64 %results.words
  %run.at = getelementptr ptr, ptr %args, i64 %n.operands
  %run = load ptr, ptr %run.at
  store i64 0, ptr %bases
  br label %operand

operand:
  %o = phi i64 [ 0, %entry ], [ %o.next, %operand ]
  %o.next = add i64 %o, 1
  %arg.at = getelementptr i64, ptr %args, i64 %o
  %arg = load i64, ptr %arg.at
  %base.at = getelementptr i64, ptr %bases, i64 %o.next
  store i64 %arg, ptr %base.at
  %operands.left = icmp slt i64 %o.next, %n.operands
  br i1 %operands.left, label %operand, label %scratch

scratch:
  %scratch.at = getelementptr i64, ptr %bases, i64 %n.operands
  %shared = load i64, ptr %scratch.at
  %own = mul i64 %thread, %scratch.bytes
  %info.address = add i64 %shared, %own
  store i64 %info.address, ptr %scratch.at
  %info = inttoptr i64 %info.address to ptr
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %matrix, label %done

matrix:
  %b = phi i64 [ %begin, %scratch ], [ %b.next, %matrix.next ]
  store i32 0, ptr %info
  br label %call

call:
  %c = phi i64 [ 0, %matrix ], [ %c.next, %next ]
  %at = phi ptr [ %calls, %matrix ], [ %at.next, %next ]
  %failed = phi i1 [ false, %matrix ], [ %failed.next, %next ]
  %function = load ptr, ptr %at
  %always.at = getelementptr i64, ptr %at, i64 1
  %always.word = load i64, ptr %always.at
  %always = icmp ne i64 %always.word, 0
  %n.at = getelementptr i64, ptr %at, i64 2
  %n = load i64, ptr %n.at
  %list = getelementptr i64, ptr %at, i64 3
  %list.words = mul i64 %n, 3
  %at.next = getelementptr i64, ptr %list, i64 %list.words
  %well = xor i1 %failed, true
  %runs = or i1 %well, %always
  br i1 %runs, label %argument, label %next

argument:
  %i = phi i64 [ 0, %call ], [ %i.next, %argument ]
  %word = mul i64 %i, 3
  %which.at = getelementptr i64, ptr %list, i64 %word
  %which = load i64, ptr %which.at
  %offset.at = getelementptr i64, ptr %which.at, i64 1
  %offset = load i64, ptr %offset.at
  %stride.at = getelementptr i64, ptr %which.at, i64 2
  %stride = load i64, ptr %stride.at
  %from.at = getelementptr i64, ptr %bases, i64 %which
  %from = load i64, ptr %from.at
  %far = mul i64 %stride, %b
  %near = add i64 %from, %offset
  %value = add i64 %near, %far
  %value.at = getelementptr i64, ptr %values, i64 %i
  store i64 %value, ptr %value.at
  %i.next = add i64 %i, 1
  %arguments.left = icmp slt i64 %i.next, %n
  br i1 %arguments.left, label %argument, label %invoke

invoke:
$loads
  call void %function($passed)
  %code = load i32, ptr %info
  %wrong = icmp ne i32 %code, 0
  %fails = and i1 %wrong, %well
  br i1 %fails, label %fill, label %next

fill:
  %r = phi i64 [ 0, %invoke ], [ %r.next, %filled ]
  %r.word = mul i64 %r, 3
  %r.at = getelementptr i64, ptr %results, i64 %r.word
  %r.operand = load i64, ptr %r.at
  %r.bytes.at = getelementptr i64, ptr %r.at, i64 1
  %r.bytes = load i64, ptr %r.bytes.at
  %r.base.at = getelementptr ptr, ptr %bases, i64 %r.operand
  %r.base = load ptr, ptr %r.base.at
  %r.offset = mul i64 %r.bytes, %b
  %result = getelementptr i8, ptr %r.base, i64 %r.offset
  %r.next = add i64 %r, 1
  %r.fill.at = getelementptr i64, ptr %r.at, i64 2
  %r.fill.64 = load i64, ptr %r.fill.at
  %r.fill = trunc i64 %r.fill.64 to i8
  call void @llvm.memset.p0.i64(ptr %result, i8 %r.fill, i64 %r.bytes, i1 false)
  br label %filled

filled:
  %results.left = icmp slt i64 %r.next, %n.results
  br i1 %results.left, label %fill, label %next

next:
  %failed.next = phi i1 [ %failed, %call ], [ %failed, %invoke ], [ true, %filled ]
  %c.next = add i64 %c, 1
  %calls.left = icmp slt i64 %c.next, %n.calls
  br i1 %calls.left, label %call, label %ended

ended:
  %b.next = add i64 %b, 1
  %over = urem i64 %b.next, %interval
  %due = icmp eq i64 %over, 0
  %left = icmp slt i64 %b.next, %end
  %asks = and i1 %due, %left
  br i1 %asks, label %ask, label %asked

ask:
  %stop = call i1 @safepoint(ptr %run)
  br i1 %stop, label %done, label %matrix.next

asked:
  br i1 %left, label %matrix.next, label %done

matrix.next:
  br label %matrix

done:
  ret void
}

; to[j * ld.to + i] = from[i * ld.from + j] for i < rows, j < columns. Sixteen rows at a time, whose lines stay in the cache.
define void @transpose(i64 %rows, i64 %columns, ptr %from, i64 %ld.from, ptr %to, i64 %ld.to) {
entry:
  %some.rows = icmp sgt i64 %rows, 0
  %some.columns = icmp sgt i64 %columns, 0
  %some = and i1 %some.rows, %some.columns
  br i1 %some, label %block, label %done

block:
  %first = phi i64 [ 0, %entry ], [ %limit, %block.next ]
  %next = add i64 %first, 16
  %limit = call i64 @llvm.smin.i64(i64 %next, i64 %rows)
  br label %column

column:
  %j = phi i64 [ 0, %block ], [ %j.next, %column.next ]
  %to.start = mul i64 %j, %ld.to
  %to.column = getelementptr $element, ptr %to, i64 %to.start
  br label %row

row:
  %i = phi i64 [ %first, %column ], [ %i.next, %row ]
  %from.start = mul i64 %i, %ld.from
  %from.place = add i64 %from.start, %j
  %from.at = getelementptr $element, ptr %from, i64 %from.place
  %value = load $element, ptr %from.at, align $align
  %to.at = getelementptr $element, ptr %to.column, i64 %i
  store $element %value, ptr %to.at, align $align
  %i.next = add i64 %i, 1
  %rows.left = icmp slt i64 %i.next, %limit
  br i1 %rows.left, label %row, label %column.next

column.next:
  %j.next = add i64 %j, 1
  %columns.left = icmp slt i64 %j.next, %columns
  br i1 %columns.left, label %column, label %block.next

block.next:
  %blocks.left = icmp slt i64 %limit, %rows
  br i1 %blocks.left, label %block, label %done

done:
  ret void
}

define void @copy(i64 %bytes, ptr %from, ptr %to) {
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %bytes, i1 false)
  ret void
}

define void @clear(i64 %bytes, ptr %to) {
  call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 %bytes, i1 false)
  ret void
}

; Zeros in [start + step * i, stop + step' * i) of row i: a triangle. All of these are in bytes.
define void @triangle(i64 %rows, i64 %row, i64 %start, i64 %start.step, i64 %stop, i64 %stop.step, ptr %a) {
entry:
  %some = icmp sgt i64 %rows, 0
  br i1 %some, label %loop, label %done

loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %line = mul i64 %i, %row
  %start.far = mul i64 %i, %start.step
  %start.far.in = add i64 %start.far, %start
  %from = call i64 @llvm.smin.i64(i64 %start.far.in, i64 %row)
  %stop.far = mul i64 %i, %stop.step
  %stop.far.in = add i64 %stop.far, %stop
  %to = call i64 @llvm.smin.i64(i64 %stop.far.in, i64 %row)
  %bytes = sub i64 %to, %from
  %place = add i64 %line, %from
  %at = getelementptr i8, ptr %a, i64 %place
  call void @llvm.memset.p0.i64(ptr %at, i8 0, i64 %bytes, i1 false)
  %i.next = add i64 %i, 1
  %left = icmp slt i64 %i.next, %rows
  br i1 %left, label %loop, label %done

done:
  ret void
}

; info = 1 unless `count` real numbers are finite, which are `stride` apart.
define void @finite(i64 %count, i64 %stride, ptr %a, ptr %info) {
entry:
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %loop, label %done

loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %sum = phi $real [ 0.0, %entry ], [ %sum.next, %loop ]
  %place = mul i64 %i, %stride
  %at = getelementptr $real, ptr %a, i64 %place
  %value = load $real, ptr %at
  %zero = fsub $real %value, %value
  %sum.next = fadd reassoc $real %sum, %zero
  %i.next = add i64 %i, 1
  %left = icmp slt i64 %i.next, %count
  br i1 %left, label %loop, label %sums

sums:
  %is.finite = fcmp oeq $real %sum.next, 0.0
  br i1 %is.finite, label %done, label %fails

fails:
  store i32 1, ptr %info
  br label %done

done:
  ret void
}

; Row swaps, which LAPACK counts from 1, counted from 0; and the permutation of the m rows that they amount to.
define void @permutation(i64 %m, i64 %k, ptr %pivots, ptr %permutation) {
entry:
  br label %identity

identity:
  %i = phi i64 [ 0, %entry ], [ %i.next, %identity ]
  %number = trunc i64 %i to i32
  %number.at = getelementptr i32, ptr %permutation, i64 %i
  store i32 %number, ptr %number.at
  %i.next = add i64 %i, 1
  %left = icmp slt i64 %i.next, %m
  br i1 %left, label %identity, label %swap

swap:
  %s = phi i64 [ 0, %identity ], [ %s.next, %swap ]
  %pivot.at = getelementptr i32, ptr %pivots, i64 %s
  %from.one = load i32, ptr %pivot.at
  %pivot = sub i32 %from.one, 1
  store i32 %pivot, ptr %pivot.at
  %this.at = getelementptr i32, ptr %permutation, i64 %s
  %that.at = getelementptr i32, ptr %permutation, i32 %pivot
  %this = load i32, ptr %this.at
  %that = load i32, ptr %that.at
  store i32 %that, ptr %this.at
  store i32 %this, ptr %that.at
  %s.next = add i64 %s, 1
  %swaps.left = icmp slt i64 %s.next, %k
  br i1 %swaps.left, label %swap, label %done

done:
  ret void
}

; Indices counted from 1, counted from 0.
define void @from_zero(i64 %count, ptr %indices) {
entry:
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %at = getelementptr i32, ptr %indices, i64 %i
  %index = load i32, ptr %at
  %less = sub i32 %index, 1
  store i32 %less, ptr %at
  %i.next = add i64 %i, 1
  %left = icmp slt i64 %i.next, %count
  br i1 %left, label %loop, label %done

done:
  ret void
}

; to[i] = from[rows[i]], where a row has so many bytes. Rows outside are moved inside.
define void @gather(i64 %count, i64 %bytes, ptr %rows, ptr %from, ptr %to) {
entry:
  %last = sub i64 %count, 1
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %row.at = getelementptr i32, ptr %rows, i64 %i
  %row.32 = load i32, ptr %row.at
  %row.64 = sext i32 %row.32 to i64
  %row.low = call i64 @llvm.smax.i64(i64 %row.64, i64 0)
  %row = call i64 @llvm.smin.i64(i64 %row.low, i64 %last)
  %from.place = mul i64 %row, %bytes
  %from.at = getelementptr i8, ptr %from, i64 %from.place
  %to.place = mul i64 %i, %bytes
  %to.at = getelementptr i8, ptr %to, i64 %to.place
  call void @llvm.memcpy.p0.p0.i64(ptr %to.at, ptr %from.at, i64 %bytes, i1 false)
  %i.next = add i64 %i, 1
  %left = icmp slt i64 %i.next, %count
  br i1 %left, label %loop, label %done

done:
  ret void
}

; to[rows[i]] = from[i].
define void @scatter(i64 %count, i64 %bytes, ptr %rows, ptr %from, ptr %to) {
entry:
  %last = sub i64 %count, 1
  br label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %i.next, %loop ]
  %row.at = getelementptr i32, ptr %rows, i64 %i
  %row.32 = load i32, ptr %row.at
  %row.64 = sext i32 %row.32 to i64
  %row.low = call i64 @llvm.smax.i64(i64 %row.64, i64 0)
  %row = call i64 @llvm.smin.i64(i64 %row.low, i64 %last)
  %from.place = mul i64 %i, %bytes
  %from.at = getelementptr i8, ptr %from, i64 %from.place
  %to.place = mul i64 %row, %bytes
  %to.at = getelementptr i8, ptr %to, i64 %to.place
  call void @llvm.memcpy.p0.p0.i64(ptr %to.at, ptr %from.at, i64 %bytes, i1 false)
  %i.next = add i64 %i, 1
  %left = icmp slt i64 %i.next, %count
  br i1 %left, label %loop, label %done

done:
  ret void
}
