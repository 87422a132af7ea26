; The thread pool: one parallel job, workers, settings. Part of runtime.ll.

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
  %spun = phi i32 [ 0, %entry ], [ 0, %labor ], [ 0, %report ], [ 0, %rouse ], [ 0, %awake ],
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
  br i1 %available, label %labor, label %idle

labor:
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
