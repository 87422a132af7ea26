; The program runner and its thread pool.
;
; A program is a table in memory, all words i64, all references byte offsets from its start:
;
;   header       { count, max_args, threads }
;   instruction  { function, args, nargs, sizes, extent, grain }     `count` of them follow the header
;   args         { slot, byte offset } * nargs
;   sizes        i64 * any
;
; Every function has the kernel ABI   void (ptr args, ptr sizes, i64 begin, i64 end, i64 thread).
; Behind its last argument, args[nargs] points to the %Run. Loops and branches are functions of this ABI too, @loop
; and @branch: they find nested tables through their sizes and call @execute on them.
;
; Whatever may take long calls @safepoint every few milliseconds: the thread that runs Python's signal handlers runs
; them there, and where it returns true the run has failed and its caller returns. Kernels import it for their loops.
;
; One parallel job runs at a time. Its chunks are claimed one by one by whoever is there: the caller, who
; always takes part, and the workers that happen to be awake. The caller waits only for chunks that somebody
; has claimed, never for a worker to start. All of that hangs on one word:
;
;   ticket = generation << 32 | threads << 16 | unclaimed
;
; A compare-and-swap that lowers `unclaimed` claims a chunk. Success proves that the job is still the one the
; ticket was read for, and from then until the claim is reported the caller cannot start another, so %Job may
; be read without atomics. The upper half of the ticket doubles as the futex word on which idle workers sleep.
;
; @relax (the processor's spin-wait hint), @wait and @wake (sleep while a word has a value; wake sleepers) and @nap
; (@wait for some milliseconds at most) are defined by runtime.py for the platform at hand.

%Header = type { i64, i64, i64 }
%Instruction = type { i64, i64, i64, i64, i64, i64 }
%Job = type { ptr, ptr, ptr, i64, i64, i64, ptr }    ; function, args, sizes, extent, chunk, number of chunks, run
%Run = type { i64, ptr, ptr, ptr }                   ; whether it failed, and with what: type, value, traceback

; Words that different threads write lie on different cache lines.
@ticket = internal global i64 0, align 128
@pending = internal global i32 0, align 128          ; chunks of the job that are not reported done
@caller_sleeps = internal global i32 0, align 4      ; the caller waits for `pending` in @wait
@sleepers = internal global i32 0, align 128         ; workers in @wait, or about to enter it
@busy = internal global i32 0, align 128             ; 1 while a caller owns the pool
@job = internal global %Job zeroinitializer, align 128
@workers = internal global i32 0, align 128          ; how many workers are alive; 0 means run serially
@stopping = internal global i32 0, align 4           ; workers shall return
@spins = internal global i32 0, align 4              ; how many times to spin before sleeping
@chunks_per_thread = internal global i64 4, align 8
@caution = internal global i64 0, align 128          ; how much work to do without workers: see @parallel
@backoff = internal global i64 2048, align 8         ; how much it will be when one is late the next time

; --------------------------------------------------------------------------------------------------- running

; Run a program over an array of pointers, without the GIL, with which it is called and returns. An exception is left
; as the thread's current one.
define void @run(ptr %program, ptr %slots) {
  %run = alloca %Run
  store i64 0, ptr %run
  %python = call ptr @PyEval_SaveThread()
  call void @execute(ptr %program, ptr %slots, ptr %run)
  call void @PyEval_RestoreThread(ptr %python)
  %failure = load i64, ptr %run
  %failed = icmp ne i64 %failure, 0
  br i1 %failed, label %raise, label %done

raise:
  %type.at = getelementptr %Run, ptr %run, i64 0, i32 1
  %type = load ptr, ptr %type.at
  %value.at = getelementptr %Run, ptr %run, i64 0, i32 2
  %value = load ptr, ptr %value.at
  %traceback.at = getelementptr %Run, ptr %run, i64 0, i32 3
  %traceback = load ptr, ptr %traceback.at
  call void @PyErr_Restore(ptr %type, ptr %value, ptr %traceback)
  br label %done

done:
  ret void
}

; Walk the instructions of a table until its end or until the run has failed.
define internal void @execute(ptr %program, ptr %slots, ptr %run) {
entry:
  %count = load i64, ptr %program
  %max_args.at = getelementptr %Header, ptr %program, i64 0, i32 1
  %max_args = load i64, ptr %max_args.at
  %threads.at = getelementptr %Header, ptr %program, i64 0, i32 2
  %threads = load i64, ptr %threads.at
  %capacity = add i64 %max_args, 1
  %args = alloca ptr, i64 %capacity
  %first = getelementptr %Header, ptr %program, i64 1
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %done, label %instruction

instruction:
  %index = phi i64 [ 0, %entry ], [ %index.next, %continue ], [ %index.next, %ask ]
  %at = getelementptr %Instruction, ptr %first, i64 %index
  %function.word = load i64, ptr %at
  %function = inttoptr i64 %function.word to ptr
  %operands.at = getelementptr %Instruction, ptr %at, i64 0, i32 1
  %operands.offset = load i64, ptr %operands.at
  %operands = getelementptr i8, ptr %program, i64 %operands.offset
  %nargs.at = getelementptr %Instruction, ptr %at, i64 0, i32 2
  %nargs = load i64, ptr %nargs.at
  %sizes.at = getelementptr %Instruction, ptr %at, i64 0, i32 3
  %sizes.offset = load i64, ptr %sizes.at
  %sizes = getelementptr i8, ptr %program, i64 %sizes.offset
  %extent.at = getelementptr %Instruction, ptr %at, i64 0, i32 4
  %extent = load i64, ptr %extent.at
  %grain.at = getelementptr %Instruction, ptr %at, i64 0, i32 5
  %grain = load i64, ptr %grain.at
  br label %gather

gather:                                              ; args[i] = slots[slot] + offset
  %i = phi i64 [ 0, %instruction ], [ %i.next, %gather.one ]
  %gathered = icmp eq i64 %i, %nargs
  br i1 %gathered, label %dispatch, label %gather.one

gather.one:
  %slot.at = getelementptr { i64, i64 }, ptr %operands, i64 %i
  %slot = load i64, ptr %slot.at
  %offset.at = getelementptr { i64, i64 }, ptr %operands, i64 %i, i32 1
  %offset = load i64, ptr %offset.at
  %base.at = getelementptr ptr, ptr %slots, i64 %slot
  %base = load ptr, ptr %base.at
  %pointer = getelementptr i8, ptr %base, i64 %offset
  %arg.at = getelementptr ptr, ptr %args, i64 %i
  store ptr %pointer, ptr %arg.at
  %i.next = add i64 %i, 1
  br label %gather

dispatch:
  %hidden.at = getelementptr ptr, ptr %args, i64 %nargs
  store ptr %run, ptr %hidden.at
  %large = icmp sgt i64 %extent, %grain
  br i1 %large, label %parallel, label %direct

parallel:
  call void @parallel(ptr %function, ptr %args, ptr %sizes, i64 %extent, i64 %grain, i64 %threads, ptr %run)
  br label %next

direct:
  call void %function(ptr %args, ptr %sizes, i64 0, i64 %extent, i64 0)
  br label %next

next:
  %failed.word = load atomic i64, ptr %run monotonic, align 8
  %failed = icmp ne i64 %failed.word, 0
  %index.next = add i64 %index, 1
  %last = icmp eq i64 %index.next, %count
  %stop = or i1 %failed, %last
  br i1 %stop, label %done, label %continue

continue:                                            ; small instructions take microseconds at most: see @loop
  %place = and i64 %index.next, 31
  %due = icmp eq i64 %place, 0
  br i1 %due, label %ask, label %instruction

ask:
  %ended = call i1 @safepoint(ptr %run)
  br i1 %ended, label %done, label %instruction

done:
  ret void
}

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

; ------------------------------------------------------------------------------------------ signals and Python

@main_thread = internal global i64 0, align 128      ; the thread that runs signal handlers, as Python numbers threads
@pause = internal global i64 0, align 8              ; cycles between two looks at signals
@due = internal global i64 0, align 8                ; when the next one is

; Let Python handle signals, if a look at them is due and this is the thread that does. Whether the run has failed,
; now or earlier.
;
; To look at signals takes the GIL, for which other threads may make this one wait: the time between two looks is 16
; times what the last one took, at least.
define i1 @safepoint(ptr %run) {
  %failed.word = load atomic i64, ptr %run monotonic, align 8
  %failed = icmp ne i64 %failed.word, 0
  br i1 %failed, label %stop, label %look

look:
  %now = call i64 @llvm.readcyclecounter()
  %due = load atomic i64, ptr @due monotonic, align 8
  %over = sub i64 %now, %due
  %early = icmp slt i64 %over, 0
  br i1 %early, label %go.on, label %who

who:
  %self = call i64 @PyThread_get_thread_ident()
  %main = load i64, ptr @main_thread
  %is.main = icmp eq i64 %self, %main
  br i1 %is.main, label %handle, label %go.on

handle:
  %gil = call i32 @PyGILState_Ensure()
  %raised = call i32 @PyErr_CheckSignals()
  %quiet = icmp eq i32 %raised, 0
  br i1 %quiet, label %handled, label %interrupt

interrupt:
  call void @fail(ptr %run)
  br label %handled

handled:
  call void @PyGILState_Release(i32 %gil)
  %after = call i64 @llvm.readcyclecounter()
  %took = sub i64 %after, %now
  %polite = shl i64 %took, 4
  %pause = load i64, ptr @pause
  %rest = call i64 @llvm.smax.i64(i64 %polite, i64 %pause)
  %due.next = add i64 %after, %rest
  store atomic i64 %due.next, ptr @due monotonic, align 8
  %interrupted.word = load atomic i64, ptr %run monotonic, align 8
  %interrupted = icmp ne i64 %interrupted.word, 0
  ret i1 %interrupted

stop:
  ret i1 true

go.on:
  ret i1 false
}

; Let the run fail with the current exception of this thread, which has the GIL. The first one is kept.
define internal void @fail(ptr %run) {
  %failed.word = load atomic i64, ptr %run monotonic, align 8
  %failed = icmp ne i64 %failed.word, 0
  br i1 %failed, label %forget, label %keep

forget:
  call void @PyErr_Clear()
  ret void

keep:
  %type = getelementptr %Run, ptr %run, i64 0, i32 1
  %value = getelementptr %Run, ptr %run, i64 0, i32 2
  %traceback = getelementptr %Run, ptr %run, i64 0, i32 3
  call void @PyErr_Fetch(ptr %type, ptr %value, ptr %traceback)
  store atomic i64 1, ptr %run release, align 8
  ret void
}

; Call a Python function with the address of `args`. An exception, of a signal handler too, is the run's.
; sizes: { this function, the Python function, nargs }
define void @host(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
  %callable.at = getelementptr i64, ptr %sizes, i64 1
  %callable.word = load i64, ptr %callable.at
  %callable = inttoptr i64 %callable.word to ptr
  %gil = call i32 @PyGILState_Ensure()
  %args.word = ptrtoint ptr %args to i64
  %result = call ptr (ptr, ptr, ...) @PyObject_CallFunction(ptr %callable, ptr @host.format, i64 %args.word)
  %raised = icmp eq ptr %result, null
  br i1 %raised, label %failed, label %returned

failed:
  %nargs.at = getelementptr i64, ptr %sizes, i64 2
  %nargs = load i64, ptr %nargs.at
  %run.at = getelementptr ptr, ptr %args, i64 %nargs
  %run = load ptr, ptr %run.at
  call void @fail(ptr %run)
  br label %done

returned:
  call void @Py_DecRef(ptr %result)
  br label %done

done:
  call void @PyGILState_Release(i32 %gil)
  ret void
}

@host.format = internal constant [2 x i8] c"n\00"

declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare i32 @PyGILState_Ensure()
declare void @PyGILState_Release(i32)
declare i64 @PyThread_get_thread_ident()
declare i32 @PyErr_CheckSignals()
declare void @PyErr_Fetch(ptr, ptr, ptr)
declare void @PyErr_Restore(ptr, ptr, ptr)
declare void @PyErr_Clear()
declare ptr @PyObject_CallFunction(ptr, ptr, ...)
declare void @Py_DecRef(ptr)

; ------------------------------------------------------------------------------------------ one parallel job

; A worker that the scheduler stops within a chunk makes its caller wait for milliseconds, and where another process
; wants the core that happens again and again. When a worker is late, by far more than the caller's own chunks took,
; work is done without workers for a while: for @backoff units of a grain each, which is twice as long every time,
; and becomes shorter with every job that nobody was late for.
;
; Split [0, extent) into chunks, whole multiples of the grain, and run them all. The chunks depend on the
; extent, the grain and the program's thread count alone, not on who is there to run them: results are the
; same bits every time. None takes longer than about 1024 grains, for between them the run can be interrupted.
define internal void @parallel(ptr %function, ptr %args, ptr %sizes, i64 %extent, i64 %grain, i64 %threads, ptr %run)
    noinline {
  %grain.less = add i64 %grain, -1
  %extent.up = add i64 %extent, %grain.less
  %units = udiv i64 %extent.up, %grain
  %per_thread = load i64, ptr @chunks_per_thread
  %enough = mul i64 %threads, %per_thread
  %short = udiv i64 %units, 1024
  %most = call i64 @llvm.umax.i64(i64 %enough, i64 %short)
  %most.16 = call i64 @llvm.umin.i64(i64 %most, i64 65535)
  %wanted = call i64 @llvm.umin.i64(i64 %units, i64 %most.16)
  %wanted.less = add i64 %wanted, -1
  %units.up = add i64 %units, %wanted.less
  %units.each = udiv i64 %units.up, %wanted
  %chunk = mul i64 %units.each, %grain
  %chunk.less = add i64 %chunk, -1
  %extent.up.2 = add i64 %extent, %chunk.less
  %chunks = udiv i64 %extent.up.2, %chunk
  %alive = load atomic i32, ptr @workers monotonic, align 4
  %nobody = icmp eq i32 %alive, 0
  %single = icmp ule i64 %threads, 1
  %alone = or i1 %nobody, %single
  br i1 %alone, label %serial, label %careful

careful:
  %caution = load atomic i64, ptr @caution monotonic, align 8
  %cautious = icmp sgt i64 %caution, 0
  br i1 %cautious, label %spend, label %acquire

spend:
  %caution.left = sub i64 %caution, %units
  store atomic i64 %caution.left, ptr @caution monotonic, align 8
  br label %serial

acquire:                                             ; somebody else's job has the pool: do not wait for it
  %locked = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic
  %owned = extractvalue { i32, i1 } %locked, 1
  br i1 %owned, label %publish, label %serial

publish:
  store ptr %function, ptr @job
  store ptr %args, ptr getelementptr (%Job, ptr @job, i64 0, i32 1)
  store ptr %sizes, ptr getelementptr (%Job, ptr @job, i64 0, i32 2)
  store i64 %extent, ptr getelementptr (%Job, ptr @job, i64 0, i32 3)
  store i64 %chunk, ptr getelementptr (%Job, ptr @job, i64 0, i32 4)
  store i64 %chunks, ptr getelementptr (%Job, ptr @job, i64 0, i32 5)
  store ptr %run, ptr getelementptr (%Job, ptr @job, i64 0, i32 6)
  %chunks.32 = trunc i64 %chunks to i32
  store atomic i32 %chunks.32, ptr @pending monotonic, align 4
  %old = load atomic i64, ptr @ticket monotonic, align 8
  %generation.old = lshr i64 %old, 32
  %generation.next = add i64 %generation.old, 1
  %generation.high = shl i64 %generation.next, 32
  %threads.high = shl i64 %threads, 16
  %who = or i64 %generation.high, %threads.high
  %new = or i64 %who, %chunks
  ; Sequentially consistent: either a worker going to sleep sees this ticket, or we see that worker among the
  ; sleepers.
  %ignored = atomicrmw xchg ptr @ticket, i64 %new seq_cst
  %asleep = load atomic i32, ptr @sleepers seq_cst, align 4
  %anyone = icmp ne i32 %asleep, 0
  br i1 %anyone, label %rouse, label %take.part

rouse:
  %others = add i32 %chunks.32, -1
  call void @wake(ptr getelementptr (i8, ptr @ticket, i64 4), i32 %others)
  br label %take.part

take.part:
  %generation = trunc i64 %generation.next to i32
  %start = call i64 @llvm.readcyclecounter()
  %mine = call i32 @work(i32 %generation, i64 0)
  %worked = call i64 @llvm.readcyclecounter()
  %before = atomicrmw sub ptr @pending, i32 %mine seq_cst
  %left = sub i32 %before, %mine
  %complete = icmp eq i32 %left, 0
  br i1 %complete, label %forget, label %linger

linger:
  call void @await_reports(ptr %run)
  %now = call i64 @llvm.readcyclecounter()
  %waited = sub i64 %now, %worked
  %own = sub i64 %worked, %start
  %mine.64 = zext i32 %mine to i64
  %mine.some = call i64 @llvm.umax.i64(i64 %mine.64, i64 1)
  %each = udiv i64 %own, %mine.some
  %usual = mul i64 %each, 4
  %patience = add i64 %usual, 300000                 ; cycles: a tenth of a millisecond
  %late = icmp ugt i64 %waited, %patience
  %took.part = icmp ne i32 %mine, 0
  %stalled = and i1 %late, %took.part
  br i1 %stalled, label %learn, label %forget

learn:
  %backoff = load atomic i64, ptr @backoff monotonic, align 8
  store atomic i64 %backoff, ptr @caution monotonic, align 8
  %backoff.twice = shl i64 %backoff, 1
  %backoff.most = call i64 @llvm.umin.i64(i64 %backoff.twice, i64 32768)
  store atomic i64 %backoff.most, ptr @backoff monotonic, align 8
  br label %release

forget:
  %backoff.old = load atomic i64, ptr @backoff monotonic, align 8
  %backoff.less = add i64 %backoff.old, -1
  %backoff.least = call i64 @llvm.umax.i64(i64 %backoff.less, i64 2048)
  store atomic i64 %backoff.least, ptr @backoff monotonic, align 8
  br label %release

release:
  store atomic i32 0, ptr @busy release, align 4
  ret void

serial:
  br label %serial.chunk

serial.chunk:
  %begin = phi i64 [ 0, %serial ], [ %begin.next, %serial.next ]
  %begin.next = add i64 %begin, %chunk
  %end = call i64 @llvm.umin.i64(i64 %begin.next, i64 %extent)
  call void %function(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 0)
  %more = icmp ult i64 %begin.next, %extent
  br i1 %more, label %serial.next, label %serial.done

serial.next:
  %ended = call i1 @safepoint(ptr %run)
  br i1 %ended, label %serial.done, label %serial.chunk

serial.done:
  ret void
}

; Claim and run chunks of one generation until none is left. How many this thread claimed; the caller of @work
; reports them. The chunks of a run that has failed are claimed and not run.
define internal i32 @work(i32 %generation, i64 %thread) noinline {
entry:
  br label %look

look:
  %ran = phi i32 [ 0, %entry ], [ %ran, %claim ], [ %ran.next, %chunk ], [ %ran.next, %run.it ]
  %seen = load atomic i64, ptr @ticket acquire, align 8
  %seen.high = lshr i64 %seen, 32
  %seen.generation = trunc i64 %seen.high to i32
  %current = icmp eq i32 %seen.generation, %generation
  %unclaimed = and i64 %seen, 65535
  %open = icmp ne i64 %unclaimed, 0
  %available = and i1 %current, %open
  br i1 %available, label %claim, label %done

claim:
  %lower = add i64 %seen, -1
  %swapped = cmpxchg ptr @ticket, i64 %seen, i64 %lower acq_rel monotonic
  %claimed = extractvalue { i64, i1 } %swapped, 1
  br i1 %claimed, label %chunk, label %look

chunk:
  %ran.next = add i32 %ran, 1
  %run = load ptr, ptr getelementptr (%Job, ptr @job, i64 0, i32 6)
  %ended = call i1 @safepoint(ptr %run)
  br i1 %ended, label %look, label %run.it

run.it:
  %function = load ptr, ptr @job
  %args = load ptr, ptr getelementptr (%Job, ptr @job, i64 0, i32 1)
  %sizes = load ptr, ptr getelementptr (%Job, ptr @job, i64 0, i32 2)
  %extent = load i64, ptr getelementptr (%Job, ptr @job, i64 0, i32 3)
  %size = load i64, ptr getelementptr (%Job, ptr @job, i64 0, i32 4)
  %chunks = load i64, ptr getelementptr (%Job, ptr @job, i64 0, i32 5)
  %index = sub i64 %chunks, %unclaimed
  %begin = mul i64 %index, %size
  %begin.next = add i64 %begin, %size
  %end = call i64 @llvm.umin.i64(i64 %begin.next, i64 %extent)
  call void %function(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread)
  br label %look

done:
  ret i32 %ran
}

; Wait until every claimed chunk is reported. Spinning gives way to sleeping, so that a worker which the
; scheduler has stopped in the middle of a chunk can have this thread's core. Signals are handled meanwhile; who is in
; a chunk then returns at its next safepoint.
define internal void @await_reports(ptr %run) noinline {
entry:
  %limit = load i32, ptr @spins
  br label %look

look:
  %spun = phi i32 [ 0, %entry ], [ %spun.next, %spin ]
  %left = load atomic i32, ptr @pending acquire, align 4
  %complete = icmp eq i32 %left, 0
  br i1 %complete, label %done, label %hesitate

hesitate:
  %tired = icmp uge i32 %spun, %limit
  br i1 %tired, label %sleep, label %spin

spin:
  call void @relax()
  %spun.next = add i32 %spun, 1
  br label %look

sleep:
  store atomic i32 1, ptr @caller_sleeps seq_cst, align 4
  %left.now = load atomic i32, ptr @pending seq_cst, align 4
  %complete.now = icmp eq i32 %left.now, 0
  br i1 %complete.now, label %awake, label %doze

doze:
  call void @nap(ptr @pending, i32 %left.now)
  %ignored = call i1 @safepoint(ptr %run)
  br label %sleep

awake:
  store atomic i32 0, ptr @caller_sleeps monotonic, align 4
  br label %done

done:
  ret void
}

; --------------------------------------------------------------------------------------------------- workers

; The life of worker `id` (1, 2, ...; the caller of a job is thread 0). Returns after @stop.
define void @worker(i64 %id) {
entry:
  br label %look

look:
  %spun = phi i32 [ 0, %entry ], [ 0, %labour ], [ 0, %report ], [ 0, %rouse ], [ 0, %awake ],
                  [ %more, %spin ]
  %seen = load atomic i64, ptr @ticket acquire, align 8
  %seen.high = lshr i64 %seen, 32
  %generation = trunc i64 %seen.high to i32
  %unclaimed = and i64 %seen, 65535
  %open = icmp ne i64 %unclaimed, 0
  %threads.low = lshr i64 %seen, 16
  %threads = and i64 %threads.low, 65535
  %member = icmp ult i64 %id, %threads
  %available = and i1 %open, %member
  br i1 %available, label %labour, label %idle

labour:
  %ran = call i32 @work(i32 %generation, i64 %id)
  %something = icmp ne i32 %ran, 0
  br i1 %something, label %report, label %look

report:
  %before = atomicrmw sub ptr @pending, i32 %ran seq_cst
  %last = icmp eq i32 %before, %ran
  %sleeping = load atomic i32, ptr @caller_sleeps seq_cst, align 4
  %sleeps = icmp ne i32 %sleeping, 0
  %call = and i1 %last, %sleeps
  br i1 %call, label %rouse, label %look

rouse:
  call void @wake(ptr @pending, i32 1)
  br label %look

idle:
  %stop = load atomic i32, ptr @stopping monotonic, align 4
  %stops = icmp ne i32 %stop, 0
  br i1 %stops, label %leave, label %hesitate

hesitate:
  %limit = load i32, ptr @spins
  %tired = icmp uge i32 %spun, %limit
  br i1 %tired, label %sleep, label %spin

spin:
  call void @relax()
  %more = add i32 %spun, 1
  br label %look

sleep:                                               ; @wait returns at once if a newer generation is out
  %ignored = atomicrmw add ptr @sleepers, i32 1 seq_cst
  call void @wait(ptr getelementptr (i8, ptr @ticket, i64 4), i32 %generation)
  br label %awake

awake:
  %ignored.2 = atomicrmw sub ptr @sleepers, i32 1 seq_cst
  br label %look

leave:
  ret void
}

; -------------------------------------------------------------------------------------------------- settings

; Start over with no job: at start, and in the child of a fork, where no worker and no job survived.
define void @reset(i64 %main_thread, i64 %pause) {
  store i64 %main_thread, ptr @main_thread
  store i64 %pause, ptr @pause
  %old = load atomic i64, ptr @ticket monotonic, align 8
  %generation = and i64 %old, -4294967296
  store atomic i64 %generation, ptr @ticket monotonic, align 8
  store atomic i32 0, ptr @workers monotonic, align 4
  store atomic i32 0, ptr @sleepers monotonic, align 4
  store atomic i32 0, ptr @caller_sleeps monotonic, align 4
  store atomic i32 0, ptr @stopping monotonic, align 4
  store atomic i64 0, ptr @caution monotonic, align 8
  store atomic i32 0, ptr @busy release, align 4
  ret void
}

; How many workers there are, how long they and callers spin, and how finely jobs are split.
define void @configure(i32 %workers, i32 %spins, i64 %chunks_per_thread) {
  store i32 %spins, ptr @spins
  store i64 %chunks_per_thread, ptr @chunks_per_thread
  store atomic i32 0, ptr @stopping monotonic, align 4
  store atomic i32 %workers, ptr @workers release, align 4
  ret void
}

; Ask the workers to return. A worker just falling asleep misses it: repeat until all are gone.
define void @stop() {
  store atomic i32 0, ptr @workers monotonic, align 4
  store atomic i32 1, ptr @stopping seq_cst, align 4
  call void @wake(ptr getelementptr (i8, ptr @ticket, i64 4), i32 2147483647)
  ret void
}

; Spin as an idle worker does, to find out how long that takes. The cycles it took.
define i64 @spin(i32 %times) {
entry:
  %start = call i64 @llvm.readcyclecounter()
  br label %loop

loop:
  %i = phi i32 [ 0, %entry ], [ %i.next, %loop ]
  call void @relax()
  %seen = load atomic i64, ptr @ticket acquire, align 8
  %i.next = add i32 %i, 1
  %more = icmp ult i32 %i.next, %times
  br i1 %more, label %loop, label %done

done:
  %stop = call i64 @llvm.readcyclecounter()
  %cycles = sub i64 %stop, %start
  ret i64 %cycles
}

declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.umax.i64(i64, i64)
declare i64 @llvm.readcyclecounter()
