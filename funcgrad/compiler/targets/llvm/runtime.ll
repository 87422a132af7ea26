; The program runner. instructions.ll, signals.ll and pool.ll are the other parts of its module.
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
