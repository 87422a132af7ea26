; Signals and Python functions within a run. Part of runtime.ll.

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
