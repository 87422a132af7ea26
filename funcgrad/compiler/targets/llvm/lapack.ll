; LAPACK's factorizations with the kernel ABI, for one element type; lapack.py fills in the $$names.
;
;   A[b] = L[b] @ L[b]^H       all matrices row-major and n by n, their lower triangles used
;
;   args   L, A
;   sizes  n
;
; An iteration is one matrix. What is a lower triangle by rows is an upper one by columns, as LAPACK counts. A matrix
; that is not positive definite has no factor: its lower triangle is NaN. An element has $parts real numbers of $bytes bytes.

@upper = private constant i8 85

declare void @lapack_potrf(ptr, ptr, ptr, ptr, ptr, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define void @potrf(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
entry:
  %order = alloca i32
  %info = alloca i32
  %n = load i64, ptr %sizes
  %n.32 = trunc i64 %n to i32
  store i32 %n.32, ptr %order
  %row = mul i64 %n, $parts
  %numbers = mul i64 %row, %n
  %bytes = mul i64 %numbers, $bytes
  %l.base = load ptr, ptr %args
  %a.at = getelementptr ptr, ptr %args, i64 1
  %a.base = load ptr, ptr %a.at
  %empty = icmp eq i64 %n, 0
  %none = icmp sge i64 %begin, %end
  %nothing = or i1 %empty, %none
  br i1 %nothing, label %done, label %matrix

matrix:
  %b = phi i64 [ %begin, %entry ], [ %b.next, %filled ]
  %start = mul i64 %b, %numbers
  %l = getelementptr $real, ptr %l.base, i64 %start
  %a = getelementptr $real, ptr %a.base, i64 %start
  call void @llvm.memcpy.p0.p0.i64(ptr %l, ptr %a, i64 %bytes, i1 false)
  call void @lapack_potrf(ptr @upper, ptr %order, ptr %l, ptr %order, ptr %info, i64 1)
  %code = load i32, ptr %info
  %found = icmp eq i32 %code, 0
  br label %check

; What is infinite or NaN in A shows on the diagonal of L; there is no factor then.
check:
  %d = phi i64 [ 0, %matrix ], [ %d.next, %check ]
  %finite.so.far = phi i1 [ %found, %matrix ], [ %finite, %check ]
  %row.at = mul i64 %d, %row
  %column.at = mul i64 %d, $parts
  %diagonal.at = add i64 %row.at, %column.at
  %pivot.at = getelementptr $real, ptr %l, i64 %diagonal.at
  %pivot = load $real, ptr %pivot.at
  %zero = fsub $real %pivot, %pivot
  %is.finite = fcmp oeq $real %zero, 0.0
  %finite = and i1 %finite.so.far, %is.finite
  %d.next = add i64 %d, 1
  %pivots.left = icmp slt i64 %d.next, %n
  br i1 %pivots.left, label %check, label %checked

checked:
  %failed = xor i1 %finite, true
  br label %fill.row

; Zeros after the diagonal of row i; NaN up to there where there is no factor.
fill.row:
  %i = phi i64 [ 0, %checked ], [ %i.next, %fill.row.done ]
  %i.next = add i64 %i, 1
  %after = mul i64 %i.next, $parts
  %first = select i1 %failed, i64 0, i64 %after
  %line.start = mul i64 %i, %row
  %line = getelementptr $real, ptr %l, i64 %line.start
  %some = icmp slt i64 %first, %row
  br i1 %some, label %fill, label %fill.row.done

fill:
  %j = phi i64 [ %first, %fill.row ], [ %j.next, %fill ]
  %below = icmp slt i64 %j, %after
  %value = select i1 %below, $real $nan, $real 0.0
  %at = getelementptr $real, ptr %line, i64 %j
  store $real %value, ptr %at
  %j.next = add i64 %j, 1
  %more = icmp slt i64 %j.next, %row
  br i1 %more, label %fill, label %fill.row.done

fill.row.done:
  %rows.left = icmp slt i64 %i.next, %n
  br i1 %rows.left, label %fill.row, label %filled

filled:
  %b.next = add i64 %b, 1
  %matrices.left = icmp slt i64 %b.next, %end
  br i1 %matrices.left, label %matrix, label %done

done:
  ret void
}
