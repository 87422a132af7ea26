; Functions of the runtime that are instructions: copies, joins, branches and loops. Part of runtime.ll.

; ----------------------------------------------------------------------------------- copies, branches, loops

; Copy bytes [begin, end) of args[1] to args[0].
define void @copy(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
  %to = load ptr, ptr %args
  %from.at = getelementptr ptr, ptr %args, i64 1
  %from = load ptr, ptr %from.at
  %to.begin = getelementptr i8, ptr %to, i64 %begin
  %from.begin = getelementptr i8, ptr %from, i64 %begin
  %bytes = sub i64 %end, %begin
  call void @llvm.memcpy.p0.p0.i64(ptr %to.begin, ptr %from.begin, i64 %bytes, i1 false)
  ret void
}

; Write bytes [begin, end) of args[0], which is rows of sizes[0] bytes: in each row sizes[1] bytes from args[1], then
; sizes[2] from args[2], and so on. What comes from one argument is side by side there.
define void @join(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
entry:
  %to = load ptr, ptr %args
  %row.bytes = load i64, ptr %sizes
  %any = icmp ult i64 %begin, %end
  br i1 %any, label %start, label %done

start:
  %first.row = udiv i64 %begin, %row.bytes
  %column = urem i64 %begin, %row.bytes
  br label %find

find:                                                ; the part that the first byte comes from
  %p = phi i64 [ 1, %start ], [ %p.next, %find.next ]
  %left = phi i64 [ %column, %start ], [ %left.next, %find.next ]
  %p.bytes.at = getelementptr i64, ptr %sizes, i64 %p
  %p.bytes = load i64, ptr %p.bytes.at
  %here = icmp ult i64 %left, %p.bytes
  br i1 %here, label %row, label %find.next

find.next:
  %left.next = sub i64 %left, %p.bytes
  %p.next = add i64 %p, 1
  br label %find

row:
  %row.index = phi i64 [ %first.row, %find ], [ %row.next, %next.row ]
  %row.part = phi i64 [ %p, %find ], [ 1, %next.row ]
  %row.skipped = phi i64 [ %left, %find ], [ 0, %next.row ]
  %row.at = phi i64 [ %begin, %find ], [ %next.at, %next.row ]
  %row.next = add i64 %row.index, 1
  %row.last = mul i64 %row.next, %row.bytes
  %row.end = call i64 @llvm.umin.i64(i64 %row.last, i64 %end)
  br label %piece

piece:
  %part = phi i64 [ %row.part, %row ], [ %next.part, %copied ]
  %skipped = phi i64 [ %row.skipped, %row ], [ 0, %copied ]
  %at = phi i64 [ %row.at, %row ], [ %next.at, %copied ]
  %bytes.at = getelementptr i64, ptr %sizes, i64 %part
  %bytes = load i64, ptr %bytes.at
  %rest = sub i64 %bytes, %skipped
  %room = sub i64 %row.end, %at
  %count = call i64 @llvm.umin.i64(i64 %rest, i64 %room)
  %base.at = getelementptr ptr, ptr %args, i64 %part
  %base = load ptr, ptr %base.at
  %before = mul i64 %row.index, %bytes
  %from.offset = add i64 %before, %skipped
  %from = getelementptr i8, ptr %base, i64 %from.offset
  %into = getelementptr i8, ptr %to, i64 %at
  switch i64 %count, label %many [ i64 4, label %four
                                   i64 8, label %eight ]

four:
  %word = load i32, ptr %from, align 1
  store i32 %word, ptr %into, align 1
  br label %copied

eight:
  %double = load i64, ptr %from, align 1
  store i64 %double, ptr %into, align 1
  br label %copied

many:
  call void @llvm.memcpy.p0.p0.i64(ptr %into, ptr %from, i64 %count, i1 false)
  br label %copied

copied:
  %next.at = add i64 %at, %count
  %next.part = add i64 %part, 1
  %row.done = icmp eq i64 %next.at, %row.end
  br i1 %row.done, label %next.row, label %piece

next.row:
  %finished = icmp eq i64 %next.at, %end
  br i1 %finished, label %done, label %row

done:
  ret void
}

; Write rows [begin, end) of the same, of sizes[0] bytes each. sizes[1] is the number of arguments, sizes[2] how many rows
; are written while they are in the cache: of these the parts from one argument first, and then those from the next.
; The bytes of a row that come from args[1], args[2], … are sizes[3], sizes[4], …
define void @interleave(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
entry:
  %to = load ptr, ptr %args
  %row.bytes = load i64, ptr %sizes
  %count.at = getelementptr i64, ptr %sizes, i64 1
  %count = load i64, ptr %count.at
  %block.at = getelementptr i64, ptr %sizes, i64 2
  %block = load i64, ptr %block.at
  br label %rows

rows:
  %first = phi i64 [ %begin, %entry ], [ %last, %parts.done ]
  %more = icmp slt i64 %first, %end
  br i1 %more, label %parts, label %done

parts:
  %first.next = add i64 %first, %block
  %last = call i64 @llvm.smin.i64(i64 %first.next, i64 %end)
  %first.byte = mul i64 %first, %row.bytes
  %corner = getelementptr i8, ptr %to, i64 %first.byte
  br label %argument

argument:
  %i = phi i64 [ 1, %parts ], [ %i.next, %argument.done ]
  %column = phi i64 [ 0, %parts ], [ %column.next, %argument.done ]
  %base.at = getelementptr ptr, ptr %args, i64 %i
  %base = load ptr, ptr %base.at
  %place = add i64 %i, 2
  %bytes.at = getelementptr i64, ptr %sizes, i64 %place
  %bytes = load i64, ptr %bytes.at
  %skipped = mul i64 %first, %bytes
  %source = getelementptr i8, ptr %base, i64 %skipped
  %target = getelementptr i8, ptr %corner, i64 %column
  switch i64 %bytes, label %many [ i64 4, label %four
                                   i64 8, label %eight ]

four:
  %row.4 = phi i64 [ %first, %argument ], [ %row.4.next, %four ]
  %from.4 = phi ptr [ %source, %argument ], [ %from.4.next, %four ]
  %into.4 = phi ptr [ %target, %argument ], [ %into.4.next, %four ]
  %word = load i32, ptr %from.4, align 1
  store i32 %word, ptr %into.4, align 1
  %from.4.next = getelementptr i8, ptr %from.4, i64 4
  %into.4.next = getelementptr i8, ptr %into.4, i64 %row.bytes
  %row.4.next = add i64 %row.4, 1
  %four.done = icmp eq i64 %row.4.next, %last
  br i1 %four.done, label %argument.done, label %four

eight:
  %row.8 = phi i64 [ %first, %argument ], [ %row.8.next, %eight ]
  %from.8 = phi ptr [ %source, %argument ], [ %from.8.next, %eight ]
  %into.8 = phi ptr [ %target, %argument ], [ %into.8.next, %eight ]
  %double = load i64, ptr %from.8, align 1
  store i64 %double, ptr %into.8, align 1
  %from.8.next = getelementptr i8, ptr %from.8, i64 8
  %into.8.next = getelementptr i8, ptr %into.8, i64 %row.bytes
  %row.8.next = add i64 %row.8, 1
  %eight.done = icmp eq i64 %row.8.next, %last
  br i1 %eight.done, label %argument.done, label %eight

many:
  %row.n = phi i64 [ %first, %argument ], [ %row.n.next, %many ]
  %from.n = phi ptr [ %source, %argument ], [ %from.n.next, %many ]
  %into.n = phi ptr [ %target, %argument ], [ %into.n.next, %many ]
  call void @llvm.memcpy.p0.p0.i64(ptr %into.n, ptr %from.n, i64 %bytes, i1 false)
  %from.n.next = getelementptr i8, ptr %from.n, i64 %bytes
  %into.n.next = getelementptr i8, ptr %into.n, i64 %row.bytes
  %row.n.next = add i64 %row.n, 1
  %many.done = icmp eq i64 %row.n.next, %last
  br i1 %many.done, label %argument.done, label %many

argument.done:
  %column.next = add i64 %column, %bytes
  %i.next = add i64 %i, 1
  %all = icmp sgt i64 %i.next, %count
  br i1 %all, label %parts.done, label %argument

parts.done:
  br label %rows

done:
  ret void
}

; Run one of several tables, chosen by the int32 that args[0] points to and clamped; the arguments are its slots.
; sizes: { count, nargs, table * count }
define void @branch(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
  %count = load i64, ptr %sizes
  %nargs.at = getelementptr i64, ptr %sizes, i64 1
  %nargs = load i64, ptr %nargs.at
  %run.at = getelementptr ptr, ptr %args, i64 %nargs
  %run = load ptr, ptr %run.at
  %index.at = load ptr, ptr %args
  %index.32 = load i32, ptr %index.at
  %index = sext i32 %index.32 to i64
  %last = add i64 %count, -1
  %low = call i64 @llvm.smax.i64(i64 %index, i64 0)
  %chosen = call i64 @llvm.smin.i64(i64 %low, i64 %last)
  %place = add i64 %chosen, 2
  %table.at = getelementptr i64, ptr %sizes, i64 %place
  %table.word = load i64, ptr %table.at
  %table = inttoptr i64 %table.word to ptr
  call void @execute(ptr %table, ptr %args, ptr %run)
  ret void
}

; sizes of @loop, a %Loop and what follows it:
;
;   body, predicate    tables; without a predicate, that word is 0
;   answer             the slot of the predicate's result, one byte
;   length             iterations; -1: those from begin to end, which are independent
;   nargs, nslots      of this function, and of the tables
;   nmoving, ncarry, ncopies
;   stride             bytes by which a thread's slot 0, the memory of the tables' temporaries, is apart
;   places  { argument, byte offset } * nslots                 where the slots point to in the first iteration
;   moving  { slot, bytes } * nmoving                          how far slots move from one iteration to the next
;   carry   { read, written, one, other, result, bytes } * ncarry
;   copies  { to, from, bytes } * ncopies                      arguments that are copied before the first iteration
;
; A value that is carried along is read from slot `read` and written to slot `written`. What was written in one
; iteration is read in the next; the arguments `one` and `other` are written in turn. In the end the last one
; written is copied to the argument `result`, if that is not where it is.
%Loop = type { i64, i64, i64, i64, i64, i64, i64, i64, i64, i64 }
%Pair = type { i64, i64 }
%Carry = type { i64, i64, i64, i64, i64, i64 }
%Copy = type { i64, i64, i64 }

define void @loop(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
entry:
  %body.word = load i64, ptr %sizes
  %body = inttoptr i64 %body.word to ptr
  %predicate.at = getelementptr %Loop, ptr %sizes, i64 0, i32 1
  %predicate.word = load i64, ptr %predicate.at
  %predicate = inttoptr i64 %predicate.word to ptr
  %unconditional = icmp eq i64 %predicate.word, 0
  %answer.at = getelementptr %Loop, ptr %sizes, i64 0, i32 2
  %answer.slot = load i64, ptr %answer.at
  %length.at = getelementptr %Loop, ptr %sizes, i64 0, i32 3
  %length = load i64, ptr %length.at
  %nargs.at = getelementptr %Loop, ptr %sizes, i64 0, i32 4
  %nargs = load i64, ptr %nargs.at
  %nslots.at = getelementptr %Loop, ptr %sizes, i64 0, i32 5
  %nslots = load i64, ptr %nslots.at
  %nmoving.at = getelementptr %Loop, ptr %sizes, i64 0, i32 6
  %nmoving = load i64, ptr %nmoving.at
  %ncarry.at = getelementptr %Loop, ptr %sizes, i64 0, i32 7
  %ncarry = load i64, ptr %ncarry.at
  %ncopies.at = getelementptr %Loop, ptr %sizes, i64 0, i32 8
  %ncopies = load i64, ptr %ncopies.at
  %stride.at = getelementptr %Loop, ptr %sizes, i64 0, i32 9
  %stride = load i64, ptr %stride.at
  %places = getelementptr %Loop, ptr %sizes, i64 1
  %moving = getelementptr %Pair, ptr %places, i64 %nslots
  %carries = getelementptr %Pair, ptr %moving, i64 %nmoving
  %copies = getelementptr %Carry, ptr %carries, i64 %ncarry
  %run.at = getelementptr ptr, ptr %args, i64 %nargs
  %run = load ptr, ptr %run.at
  %counted = icmp sge i64 %length, 0
  %first = select i1 %counted, i64 0, i64 %begin
  %last = select i1 %counted, i64 %length, i64 %end
  %slots = alloca ptr, i64 %nslots
  %length.body = load i64, ptr %body
  %weight = call i64 @llvm.smax.i64(i64 %length.body, i64 1)
  br label %copy

copy:
  %c = phi i64 [ 0, %entry ], [ %c.next, %copy.one ]
  %copied = icmp eq i64 %c, %ncopies
  br i1 %copied, label %place, label %copy.one

copy.one:
  %copy.at = getelementptr %Copy, ptr %copies, i64 %c
  %to.word = load i64, ptr %copy.at
  %from.at = getelementptr %Copy, ptr %copy.at, i64 0, i32 1
  %from.word = load i64, ptr %from.at
  %copy.bytes.at = getelementptr %Copy, ptr %copy.at, i64 0, i32 2
  %copy.bytes = load i64, ptr %copy.bytes.at
  %to.arg = getelementptr ptr, ptr %args, i64 %to.word
  %to = load ptr, ptr %to.arg
  %from.arg = getelementptr ptr, ptr %args, i64 %from.word
  %from = load ptr, ptr %from.arg
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %copy.bytes, i1 false)
  %c.next = add i64 %c, 1
  br label %copy

place:
  %p = phi i64 [ 0, %copy ], [ %p.next, %place.one ]
  %placed = icmp eq i64 %p, %nslots
  br i1 %placed, label %own.memory, label %place.one

place.one:
  %place.at = getelementptr %Pair, ptr %places, i64 %p
  %place.arg.word = load i64, ptr %place.at
  %place.offset.at = getelementptr %Pair, ptr %place.at, i64 0, i32 1
  %place.offset = load i64, ptr %place.offset.at
  %place.arg = getelementptr ptr, ptr %args, i64 %place.arg.word
  %place.base = load ptr, ptr %place.arg
  %place.pointer = getelementptr i8, ptr %place.base, i64 %place.offset
  %place.slot = getelementptr ptr, ptr %slots, i64 %p
  store ptr %place.pointer, ptr %place.slot
  %p.next = add i64 %p, 1
  br label %place

own.memory:
  %arena = load ptr, ptr %slots
  %arena.offset = mul i64 %thread, %stride
  %arena.own = getelementptr i8, ptr %arena, i64 %arena.offset
  store ptr %arena.own, ptr %slots
  call void @advance(ptr %slots, ptr %moving, i64 %nmoving, i64 %first)
  br label %iteration

iteration:
  %i = phi i64 [ %first, %own.memory ], [ %i.next, %swapped ], [ %i.next, %ask.signals ]
  %spent = phi i64 [ 0, %own.memory ], [ %spent.now, %swapped ], [ 0, %ask.signals ]   ; instructions without @safepoint
  %more = icmp slt i64 %i, %last
  br i1 %more, label %test, label %finish

test:
  br i1 %unconditional, label %step, label %ask

ask:
  call void @execute(ptr %predicate, ptr %slots, ptr %run)
  %ask.failed.word = load atomic i64, ptr %run monotonic, align 8
  %ask.failed = icmp ne i64 %ask.failed.word, 0
  br i1 %ask.failed, label %done, label %answer

answer:
  %answer.slot.at = getelementptr ptr, ptr %slots, i64 %answer.slot
  %answer.pointer = load ptr, ptr %answer.slot.at
  %answer.byte = load i8, ptr %answer.pointer
  %yes = icmp ne i8 %answer.byte, 0
  br i1 %yes, label %step, label %finish

step:
  call void @execute(ptr %body, ptr %slots, ptr %run)
  %step.failed.word = load atomic i64, ptr %run monotonic, align 8
  %step.failed = icmp ne i64 %step.failed.word, 0
  br i1 %step.failed, label %done, label %ran

ran:
  call void @advance(ptr %slots, ptr %moving, i64 %nmoving, i64 1)
  br label %swap

swap:
  %k = phi i64 [ 0, %ran ], [ %k.next, %swap.one ]
  %all = icmp eq i64 %k, %ncarry
  br i1 %all, label %swapped, label %swap.one

swap.one:
  %carry = getelementptr %Carry, ptr %carries, i64 %k
  %read = load i64, ptr %carry
  %written.at = getelementptr %Carry, ptr %carry, i64 0, i32 1
  %written = load i64, ptr %written.at
  %one.at = getelementptr %Carry, ptr %carry, i64 0, i32 2
  %one = load i64, ptr %one.at
  %other.at = getelementptr %Carry, ptr %carry, i64 0, i32 3
  %other = load i64, ptr %other.at
  %read.slot = getelementptr ptr, ptr %slots, i64 %read
  %written.slot = getelementptr ptr, ptr %slots, i64 %written
  %new = load ptr, ptr %written.slot
  store ptr %new, ptr %read.slot
  %one.arg = getelementptr ptr, ptr %args, i64 %one
  %one.pointer = load ptr, ptr %one.arg
  %other.arg = getelementptr ptr, ptr %args, i64 %other
  %other.pointer = load ptr, ptr %other.arg
  %was.one = icmp eq ptr %new, %one.pointer
  %turn = select i1 %was.one, ptr %other.pointer, ptr %one.pointer
  store ptr %turn, ptr %written.slot
  %k.next = add i64 %k, 1
  br label %swap

swapped:
  %i.next = add i64 %i, 1
  %spent.now = add i64 %spent, %weight
  %due = icmp sge i64 %spent.now, 32
  br i1 %due, label %ask.signals, label %iteration

ask.signals:
  %ended = call i1 @safepoint(ptr %run)
  br i1 %ended, label %done, label %iteration

finish:
  %f = phi i64 [ 0, %iteration ], [ 0, %answer ], [ %f.next, %finish.next ]
  %finished = icmp eq i64 %f, %ncarry
  br i1 %finished, label %done, label %finish.one

finish.one:
  %final = getelementptr %Carry, ptr %carries, i64 %f
  %final.read = load i64, ptr %final
  %result.at = getelementptr %Carry, ptr %final, i64 0, i32 4
  %result.word = load i64, ptr %result.at
  %result.arg = getelementptr ptr, ptr %args, i64 %result.word
  %result = load ptr, ptr %result.arg
  %final.slot = getelementptr ptr, ptr %slots, i64 %final.read
  %value = load ptr, ptr %final.slot
  %there = icmp eq ptr %value, %result
  br i1 %there, label %finish.next, label %finish.copy

finish.copy:
  %bytes.at = getelementptr %Carry, ptr %final, i64 0, i32 5
  %bytes = load i64, ptr %bytes.at
  call void @llvm.memcpy.p0.p0.i64(ptr %result, ptr %value, i64 %bytes, i1 false)
  br label %finish.next

finish.next:
  %f.next = add i64 %f, 1
  br label %finish

done:
  ret void
}

; Move slots on by a number of iterations.
define internal void @advance(ptr %slots, ptr %moving, i64 %nmoving, i64 %by) {
entry:
  br label %look

look:
  %i = phi i64 [ 0, %entry ], [ %i.next, %one ]
  %all = icmp eq i64 %i, %nmoving
  br i1 %all, label %done, label %one

one:
  %at = getelementptr %Pair, ptr %moving, i64 %i
  %slot = load i64, ptr %at
  %bytes.at = getelementptr %Pair, ptr %at, i64 0, i32 1
  %bytes = load i64, ptr %bytes.at
  %distance = mul i64 %bytes, %by
  %place = getelementptr ptr, ptr %slots, i64 %slot
  %old = load ptr, ptr %place
  %new = getelementptr i8, ptr %old, i64 %distance
  store ptr %new, ptr %place
  %i.next = add i64 %i, 1
  br label %look

done:
  ret void
}

declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
