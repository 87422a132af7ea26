; Systems of small real matrices, for which the calls of LAPACK take longer than the arithmetic. Part of lapack.ll.

; to[i] -= factor * from[i] for i in [first, last).
define internal void @subtract(i64 %first, i64 %last, $real %factor, ptr %from, ptr %to) alwaysinline {
entry:
  %some = icmp slt i64 %first, %last
  br i1 %some, label %loop, label %done

loop:
  %i = phi i64 [ %first, %entry ], [ %i.next, %loop ]
  %from.at = getelementptr $real, ptr %from, i64 %i
  %x = load $real, ptr %from.at
  %to.at = getelementptr $real, ptr %to, i64 %i
  %y = load $real, ptr %to.at
  %product = fmul $real %factor, %x
  %difference = fsub $real %y, %product
  store $real %difference, ptr %to.at
  %i.next = add i64 %i, 1
  %left = icmp slt i64 %i.next, %last
  br i1 %left, label %loop, label %done

done:
  ret void
}

declare $real @llvm.fabs($real)

; The LU factorization of a matrix by rows, in place, with LAPACK's pivots.
define void @small_getrf(i64 %n, ptr %a, ptr %pivots) {
entry:
  br label %column

column:
  %k = phi i64 [ 0, %entry ], [ %k.next, %column.next ]
  %k.next = add i64 %k, 1
  %k.start = mul i64 %k, %n
  %k.row = getelementptr $real, ptr %a, i64 %k.start
  br label %search

search:
  %i = phi i64 [ %k, %column ], [ %i.next, %search ]
  %best = phi i64 [ %k, %column ], [ %best.next, %search ]
  %size = phi $real [ -1.0, %column ], [ %size.next, %search ]
  %i.start = mul i64 %i, %n
  %i.place = add i64 %i.start, %k
  %i.at = getelementptr $real, ptr %a, i64 %i.place
  %candidate = load $real, ptr %i.at
  %length = call $real @llvm.fabs($real %candidate)
  %larger = fcmp ogt $real %length, %size
  %size.next = select i1 %larger, $real %length, $real %size
  %best.next = select i1 %larger, i64 %i, i64 %best
  %i.next = add i64 %i, 1
  %search.left = icmp slt i64 %i.next, %n
  br i1 %search.left, label %search, label %found

found:
  %from.one = add i64 %best.next, 1
  %pivot.number = trunc i64 %from.one to i32
  %pivot.at = getelementptr i32, ptr %pivots, i64 %k
  store i32 %pivot.number, ptr %pivot.at
  %best.start = mul i64 %best.next, %n
  %best.row = getelementptr $real, ptr %a, i64 %best.start
  br label %swap

swap:
  %j = phi i64 [ 0, %found ], [ %j.next, %swap ]
  %this.at = getelementptr $real, ptr %k.row, i64 %j
  %that.at = getelementptr $real, ptr %best.row, i64 %j
  %this = load $real, ptr %this.at
  %that = load $real, ptr %that.at
  store $real %this, ptr %that.at
  store $real %that, ptr %this.at
  %j.next = add i64 %j, 1
  %swap.left = icmp slt i64 %j.next, %n
  br i1 %swap.left, label %swap, label %swapped

swapped:
  %diagonal.at = getelementptr $real, ptr %k.row, i64 %k
  %pivot = load $real, ptr %diagonal.at
  %singular = fcmp oeq $real %pivot, 0.0
  %divisor = select i1 %singular, $real 1.0, $real %pivot
  %more = icmp slt i64 %k.next, %n
  br i1 %more, label %row, label %done

row:
  %r = phi i64 [ %k.next, %swapped ], [ %r.next, %row ]
  %r.start = mul i64 %r, %n
  %r.row = getelementptr $real, ptr %a, i64 %r.start
  %r.at = getelementptr $real, ptr %r.row, i64 %k
  %above = load $real, ptr %r.at
  %factor = fdiv $real %above, %divisor
  store $real %factor, ptr %r.at
  call void @subtract(i64 %k.next, i64 %n, $real %factor, ptr %k.row, ptr %r.row)
  %r.next = add i64 %r, 1
  %rows.left = icmp slt i64 %r.next, %n
  br i1 %rows.left, label %row, label %column.next

column.next:
  br label %column

done:
  ret void
}

; Solves L U X = B with small_getrf's factors; X, of m columns, is in the place of B.
define void @small_getrs(i64 %n, i64 %m, ptr %lu, ptr %x) {
entry:
  br label %forward

forward:
  %i = phi i64 [ 0, %entry ], [ %i.next, %forward.next ]
  %i.lu = mul i64 %i, %n
  %i.factors = getelementptr $real, ptr %lu, i64 %i.lu
  %i.start = mul i64 %i, %m
  %i.row = getelementptr $real, ptr %x, i64 %i.start
  %inner = icmp sgt i64 %i, 0
  br i1 %inner, label %before, label %forward.next

before:
  %k = phi i64 [ 0, %forward ], [ %k.next, %before ]
  %k.at = getelementptr $real, ptr %i.factors, i64 %k
  %k.factor = load $real, ptr %k.at
  %k.start = mul i64 %k, %m
  %k.row = getelementptr $real, ptr %x, i64 %k.start
  call void @subtract(i64 0, i64 %m, $real %k.factor, ptr %k.row, ptr %i.row)
  %k.next = add i64 %k, 1
  %before.left = icmp slt i64 %k.next, %i
  br i1 %before.left, label %before, label %forward.next

forward.next:
  %i.next = add i64 %i, 1
  %forward.left = icmp slt i64 %i.next, %n
  br i1 %forward.left, label %forward, label %backward

backward:
  %r.after = phi i64 [ %n, %forward.next ], [ %r, %divided ]
  %r = sub i64 %r.after, 1
  %r.lu = mul i64 %r, %n
  %r.factors = getelementptr $real, ptr %lu, i64 %r.lu
  %r.start = mul i64 %r, %m
  %r.row = getelementptr $real, ptr %x, i64 %r.start
  %outer = icmp slt i64 %r.after, %n
  br i1 %outer, label %after, label %divide

after:
  %c = phi i64 [ %r.after, %backward ], [ %c.next, %after ]
  %c.at = getelementptr $real, ptr %r.factors, i64 %c
  %c.factor = load $real, ptr %c.at
  %c.start = mul i64 %c, %m
  %c.row = getelementptr $real, ptr %x, i64 %c.start
  call void @subtract(i64 0, i64 %m, $real %c.factor, ptr %c.row, ptr %r.row)
  %c.next = add i64 %c, 1
  %after.left = icmp slt i64 %c.next, %n
  br i1 %after.left, label %after, label %divide

divide:
  %pivot.at = getelementptr $real, ptr %r.factors, i64 %r
  %pivot = load $real, ptr %pivot.at
  br label %element

element:
  %j = phi i64 [ 0, %divide ], [ %j.next, %element ]
  %j.at = getelementptr $real, ptr %r.row, i64 %j
  %numerator = load $real, ptr %j.at
  %quotient = fdiv $real %numerator, %pivot
  store $real %quotient, ptr %j.at
  %j.next = add i64 %j, 1
  %elements.left = icmp slt i64 %j.next, %m
  br i1 %elements.left, label %element, label %divided

divided:
  %rows.left = icmp sgt i64 %r, 0
  br i1 %rows.left, label %backward, label %done

done:
  ret void
}
