; Matrix products with the kernel ABI, for one element type and one accumulation mode; blas.py fills in the
; $$names. Everything is row-major.
;
;   C[b] = A[b] @ B[b] + beta C[b]     C is (m, n); A is (m, k) and B is (k, n), or stored transposed
;
;   args   C, A, B
;   sizes  %Sizes below: the matrices, CBLAS's codes 111 (as stored) or 112 (transposed), leading dimensions,
;          strides from one matrix of the batch to the next; then the tiling: rows and columns of a tile, row
;          tiles and column tiles of a matrix, how many row tiles may be one product
;
; An iteration is one tile: index = (b * row_tiles + i) * column_tiles + j. Between products of more than 2^20
; multiply-adds the run may be interrupted.
; @gemm is for matrices; @rows for very few rows and @columns for very few columns, where a
; matrix-vector product for each is faster than GEMM, which first copies the large operand into panels.

;               m    n    k    ta   tb   lda  ldb  ldc  stride a, b, c
%Shape = type { i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64 }
;               shape   rows columns row_tiles column_tiles joined
%Sizes = type { %Shape, i64, i64,    i64,      i64,         i64 }

; Cut a tile out of C and its operands out of A and B, and hand them to `product`.
define internal void @tiles(ptr %product, ptr %args, ptr %sizes, i64 %begin, i64 %end) alwaysinline {
entry:
  %shape = load %Shape, ptr %sizes
  %m = extractvalue %Shape %shape, 0
  %n = extractvalue %Shape %shape, 1
  %ta = extractvalue %Shape %shape, 3
  %tb = extractvalue %Shape %shape, 4
  %lda = extractvalue %Shape %shape, 5
  %ldb = extractvalue %Shape %shape, 6
  %ldc = extractvalue %Shape %shape, 7
  %stride.a = extractvalue %Shape %shape, 8
  %stride.b = extractvalue %Shape %shape, 9
  %stride.c = extractvalue %Shape %shape, 10
  %rows.at = getelementptr %Sizes, ptr %sizes, i64 0, i32 1
  %rows = load i64, ptr %rows.at
  %columns.at = getelementptr %Sizes, ptr %sizes, i64 0, i32 2
  %columns = load i64, ptr %columns.at
  %row.tiles.at = getelementptr %Sizes, ptr %sizes, i64 0, i32 3
  %row.tiles = load i64, ptr %row.tiles.at
  %column.tiles.at = getelementptr %Sizes, ptr %sizes, i64 0, i32 4
  %column.tiles = load i64, ptr %column.tiles.at
  %c.base = load ptr, ptr %args
  %a.base.at = getelementptr ptr, ptr %args, i64 1
  %a.base = load ptr, ptr %a.base.at
  %b.base.at = getelementptr ptr, ptr %args, i64 2
  %b.base = load ptr, ptr %b.base.at
  %a.plain = icmp eq i64 %ta, 111
  %a.row = select i1 %a.plain, i64 %lda, i64 1        ; from one row of op(A) to the next
  %b.plain = icmp eq i64 %tb, 111
  %b.column = select i1 %b.plain, i64 1, i64 %ldb     ; from one column of op(B) to the next
  %joined.at = getelementptr %Sizes, ptr %sizes, i64 0, i32 5
  %most.joined = load i64, ptr %joined.at
  %k = extractvalue %Shape %shape, 2
  %run.at = getelementptr ptr, ptr %args, i64 3
  %run = load ptr, ptr %run.at
  %per.matrix = mul i64 %row.tiles, %column.tiles
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %tile, label %done

tile:
  %index = phi i64 [ %begin, %entry ], [ %index.next, %continue ], [ %index.next, %ask ]
  %matrix = udiv i64 %index, %per.matrix
  %within = urem i64 %index, %per.matrix
  %i = udiv i64 %within, %column.tiles
  %j = urem i64 %within, %column.tiles
  ; Adjacent tiles over all columns are one product.
  %to.end = sub i64 %end, %index
  %to.last = sub i64 %row.tiles, %i
  %adjacent = call i64 @llvm.umin.i64(i64 %to.end, i64 %to.last)
  %joined = call i64 @llvm.umin.i64(i64 %adjacent, i64 %most.joined)
  %row = mul i64 %i, %rows
  %rows.joined = mul i64 %joined, %rows
  %rows.left = sub i64 %m, %row
  %height = call i64 @llvm.umin.i64(i64 %rows.joined, i64 %rows.left)
  %column = mul i64 %j, %columns
  %columns.left = sub i64 %n, %column
  %width = call i64 @llvm.umin.i64(i64 %columns, i64 %columns.left)
  %a.matrix = mul i64 %matrix, %stride.a
  %a.within = mul i64 %row, %a.row
  %a.offset = add i64 %a.matrix, %a.within
  %a = getelementptr $element, ptr %a.base, i64 %a.offset
  %b.matrix = mul i64 %matrix, %stride.b
  %b.within = mul i64 %column, %b.column
  %b.offset = add i64 %b.matrix, %b.within
  %b = getelementptr $element, ptr %b.base, i64 %b.offset
  %c.matrix = mul i64 %matrix, %stride.c
  %c.row = mul i64 %row, %ldc
  %c.row.offset = add i64 %c.matrix, %c.row
  %c.offset = add i64 %c.row.offset, %column
  %c = getelementptr $element, ptr %c.base, i64 %c.offset
  call void %product(%Shape %shape, i64 %height, i64 %width, ptr %c, ptr %a, ptr %b)
  %index.next = add i64 %index, %joined
  %more = icmp slt i64 %index.next, %end
  br i1 %more, label %continue, label %done

continue:
  %area = mul i64 %height, %width
  %work = mul i64 %area, %k
  %long = icmp sgt i64 %work, 1048576
  br i1 %long, label %ask, label %tile

ask:
  %ended = call i1 @safepoint(ptr %run)
  br i1 %ended, label %done, label %tile

done:
  ret void
}

define internal void @gemm.product(%Shape %shape, i64 %height, i64 %width, ptr %c, ptr %a, ptr %b)
    alwaysinline {
  %m = trunc i64 %height to i32
  %n = trunc i64 %width to i32
  %k.64 = extractvalue %Shape %shape, 2
  %k = trunc i64 %k.64 to i32
  %ta.64 = extractvalue %Shape %shape, 3
  %ta = trunc i64 %ta.64 to i32
  %tb.64 = extractvalue %Shape %shape, 4
  %tb = trunc i64 %tb.64 to i32
  %lda.64 = extractvalue %Shape %shape, 5
  %lda = trunc i64 %lda.64 to i32
  %ldb.64 = extractvalue %Shape %shape, 6
  %ldb = trunc i64 %ldb.64 to i32
  %ldc.64 = extractvalue %Shape %shape, 7
  %ldc = trunc i64 %ldc.64 to i32
  call void @blas_gemm(i32 101, i32 %ta, i32 %tb, i32 %m, i32 %n, i32 %k, $one,
                     ptr %a, i32 %lda, ptr %b, i32 %ldb, $beta, ptr %c, i32 %ldc)
  ret void
}

; Each row of C is op(B) transposed, times the row of op(A).
define internal void @rows.product(%Shape %shape, i64 %height, i64 %width, ptr %c, ptr %a, ptr %b)
    alwaysinline {
entry:
  %k = extractvalue %Shape %shape, 2
  %ta = extractvalue %Shape %shape, 3
  %tb = extractvalue %Shape %shape, 4
  %lda = extractvalue %Shape %shape, 5
  %ldb = extractvalue %Shape %shape, 6
  %ldc = extractvalue %Shape %shape, 7
  %a.plain = icmp eq i64 %ta, 111
  %a.row = select i1 %a.plain, i64 %lda, i64 1
  %a.step = select i1 %a.plain, i64 1, i64 %lda
  %a.step.32 = trunc i64 %a.step to i32
  %b.plain = icmp eq i64 %tb, 111
  %b.code = select i1 %b.plain, i32 112, i32 111
  %b.rows = select i1 %b.plain, i64 %k, i64 %width
  %b.columns = select i1 %b.plain, i64 %width, i64 %k
  %b.rows.32 = trunc i64 %b.rows to i32
  %b.columns.32 = trunc i64 %b.columns to i32
  %ldb.32 = trunc i64 %ldb to i32
  br label %row

row:
  %i = phi i64 [ 0, %entry ], [ %i.next, %row ]
  %x.offset = mul i64 %i, %a.row
  %x = getelementptr $element, ptr %a, i64 %x.offset
  %y.offset = mul i64 %i, %ldc
  %y = getelementptr $element, ptr %c, i64 %y.offset
  call void @blas_gemv(i32 101, i32 %b.code, i32 %b.rows.32, i32 %b.columns.32, $one,
                     ptr %b, i32 %ldb.32, ptr %x, i32 %a.step.32, $beta, ptr %y, i32 1)
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %height
  br i1 %more, label %row, label %done

done:
  ret void
}

; Each column of C is op(A) times the column of op(B).
define internal void @columns.product(%Shape %shape, i64 %height, i64 %width, ptr %c, ptr %a, ptr %b)
    alwaysinline {
entry:
  %k = extractvalue %Shape %shape, 2
  %ta = extractvalue %Shape %shape, 3
  %tb = extractvalue %Shape %shape, 4
  %lda = extractvalue %Shape %shape, 5
  %ldb = extractvalue %Shape %shape, 6
  %ldc = extractvalue %Shape %shape, 7
  %a.plain = icmp eq i64 %ta, 111
  %a.code = trunc i64 %ta to i32
  %a.rows = select i1 %a.plain, i64 %height, i64 %k
  %a.columns = select i1 %a.plain, i64 %k, i64 %height
  %a.rows.32 = trunc i64 %a.rows to i32
  %a.columns.32 = trunc i64 %a.columns to i32
  %lda.32 = trunc i64 %lda to i32
  %b.plain = icmp eq i64 %tb, 111
  %b.column = select i1 %b.plain, i64 1, i64 %ldb
  %b.step = select i1 %b.plain, i64 %ldb, i64 1
  %b.step.32 = trunc i64 %b.step to i32
  %ldc.32 = trunc i64 %ldc to i32
  br label %column

column:
  %j = phi i64 [ 0, %entry ], [ %j.next, %column ]
  %x.offset = mul i64 %j, %b.column
  %x = getelementptr $element, ptr %b, i64 %x.offset
  %y = getelementptr $element, ptr %c, i64 %j
  call void @blas_gemv(i32 101, i32 %a.code, i32 %a.rows.32, i32 %a.columns.32, $one,
                     ptr %a, i32 %lda.32, ptr %x, i32 %b.step.32, $beta, ptr %y, i32 %ldc.32)
  %j.next = add i64 %j, 1
  %more = icmp slt i64 %j.next, %width
  br i1 %more, label %column, label %done

done:
  ret void
}

define void @gemm(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
  call void @tiles(ptr @gemm.product, ptr %args, ptr %sizes, i64 %begin, i64 %end)
  ret void
}

define void @rows(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
  call void @tiles(ptr @rows.product, ptr %args, ptr %sizes, i64 %begin, i64 %end)
  ret void
}

define void @columns(ptr %args, ptr %sizes, i64 %begin, i64 %end, i64 %thread) {
  call void @tiles(ptr @columns.product, ptr %args, ptr %sizes, i64 %begin, i64 %end)
  ret void
}

; Complex scalars go to BLAS by reference, so all of them live here: (re, im).
@one = internal constant [2 x $real] [$real 1.0, $real 0.0]
@zero = internal constant [2 x $real] zeroinitializer

declare i1 @safepoint(ptr)
declare void @blas_gemm(i32, i32, i32, i32, i32, i32, $scalar, ptr, i32, ptr, i32, $scalar, ptr, i32)
declare void @blas_gemv(i32, i32, i32, i32, $scalar, ptr, i32, ptr, i32, $scalar, ptr, i32)
declare i64 @llvm.umin.i64(i64, i64)
