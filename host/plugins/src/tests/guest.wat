;; A guest by hand. Strings and records are laid out as the canonical ABI says.
(module
  (import "epicenter:workspace/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (import "epicenter:workspace/tables@0.1.0" "get" (func $get (param i32 i32 i32 i32 i32)))
  (import "epicenter:workspace/tables@0.1.0" "put" (func $put (param i32 i32 i32 i32 i32)))
  ;;IMPORT
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 32768))
  (global $calls (mut i32) (i32.const 0))
  ;; 0: where results are laid out. 256: texts.
  (data (i32.const 256) "boom notes true false \"denied\" not json")
  (data (i32.const 4096) "$DATA")

  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (block $enough (loop $more
      (br_if $enough (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
      (br $more)))
    (local.get $at))

  ;; A text of the page above as the result of an action.
  (func $ok (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get $at))
    (i32.store (i32.const 8) (local.get $len))
    (i32.const 0))

  (func $recurse (param i32) (result i32)
    (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))

  (func (export "epicenter:workspace/guest@0.1.0#define") (result i32)
    ;;ON-DEFINE
    (i32.const $DEFINITION))

  ;; Gives rows back as they are, but traps at one that begins with `!`, spins at one that begins with
  ;; `~`, refuses one that begins with `?` without a reason, and forgets the last where the first
  ;; begins with `-`.
  (func (export "epicenter:workspace/guest@0.1.0#parse-rows")
    (param $t i32) (param $tl i32) (param $rows i32) (param $n i32) (result i32)
    (local $out i32) (local $i i32) (local $row i32) (local $to i32) (local $first i32)
    (local.set $out (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $n) (i32.const 12))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $row (i32.add (local.get $rows) (i32.shl (local.get $i) (i32.const 3))))
      (local.set $to (i32.add (local.get $out) (i32.mul (local.get $i) (i32.const 12))))
      (local.set $first (i32.load8_u (i32.load (local.get $row))))
      (if (i32.eq (local.get $first) (i32.const 33)) (then (unreachable)))
      (if (i32.eq (local.get $first) (i32.const 126)) (then (loop $spin (br $spin))))
      (if (i32.eq (local.get $first) (i32.const 45)) (then (local.set $n (i32.sub (local.get $n) (i32.const 1)))))
      (if (i32.eq (local.get $first) (i32.const 63))
        (then
          (i32.store (local.get $to) (i32.const 1))
          (i64.store offset=4 align=4 (local.get $to) (i64.const 0)))
        (else
          (i32.store (local.get $to) (i32.const 0))
          (i64.store offset=4 align=4 (local.get $to) (i64.load align=4 (local.get $row)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (i32.store (i32.const 0) (local.get $out))
    (i32.store (i32.const 4) (local.get $n))
    (i32.const 0))

  (func (export "epicenter:workspace/guest@0.1.0#parse-kv") (param i32 i32 i32 i32) (result i32)
    (call $ok (local.get 2) (local.get 3)))

  (func (export "epicenter:workspace/guest@0.1.0#check-change") (param i32) (result i32)
    (i32.store (i32.const 0) (i32.const 0))
    (i32.const 0))

  (func (export "epicenter:workspace/guest@0.1.0#run-action")
    (param $path i32) (param $pl i32) (param $input i32) (param $il i32) (result i32)
    (local $what i32) (local $n i32)
    (local.set $what (i32.load8_u (local.get $path)))
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    ;; e: echoes its input
    (if (i32.eq (local.get $what) (i32.const 101)) (then (return (call $ok (local.get $input) (local.get $il)))))
    ;; s: spins
    (if (i32.eq (local.get $what) (i32.const 115)) (then (loop $spin (br $spin))))
    ;; t: says boom as an error and traps
    (if (i32.eq (local.get $what) (i32.const 116))
      (then (call $log (i32.const 3) (i32.const 256) (i32.const 4)) (unreachable)))
    ;; m: takes memory until there is none
    (if (i32.eq (local.get $what) (i32.const 109))
      (then (loop $grow (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)))
    ;; r: recurses
    (if (i32.eq (local.get $what) (i32.const 114)) (then (drop (call $recurse (i32.const 0)))))
    ;; g: answers 9 MiB
    (if (i32.eq (local.get $what) (i32.const 103))
      (then (drop (memory.grow (i32.const 160))) (memory.fill (i32.const 65536) (i32.const 32) (i32.const 9437184))
        (return (call $ok (i32.const 65536) (i32.const 9437184)))))
    ;; b: answers what is beyond its memory
    (if (i32.eq (local.get $what) (i32.const 98)) (then (return (call $ok (i32.const 256) (i32.const 0x40000000)))))
    ;; l: logs ten thousand lines
    (if (i32.eq (local.get $what) (i32.const 108))
      (then
        (loop $lines
          (call $log (i32.const 1) (i32.const 256) (i32.const 4))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $lines (i32.lt_u (local.get $n) (i32.const 10000))))
        (return (call $ok (i32.const 267) (i32.const 4)))))
    ;; h: asks the host for ever
    (if (i32.eq (local.get $what) (i32.const 104))
      (then (loop $ask
        (call $get (i32.const 261) (i32.const 5) (i32.const 256) (i32.const 4) (i32.const 64))
        (br $ask))))
    ;; d: tells whether the host denied it a read
    (if (i32.eq (local.get $what) (i32.const 100))
      (then
        (call $get (i32.const 261) (i32.const 5) (i32.const 256) (i32.const 4) (i32.const 64))
        (if (i32.and (i32.load8_u (i32.const 64)) (i32.eq (i32.load8_u (i32.const 68)) (i32.const 2)))
          (then (return (call $ok (i32.const 278) (i32.const 8)))))
        (return (call $ok (i32.const 272) (i32.const 5)))))
    ;; p: puts its input into the table `notes`. w: the same, and traps then.
    (if (i32.or (i32.eq (local.get $what) (i32.const 112)) (i32.eq (local.get $what) (i32.const 119)))
      (then
        (call $put (i32.const 261) (i32.const 5) (local.get $input) (local.get $il) (i32.const 64))
        (if (i32.eq (local.get $what) (i32.const 119)) (then (unreachable)))
        (if (i32.eqz (i32.load8_u (i32.const 64)))
          (then (return (call $ok (i32.load (i32.const 68)) (i32.load (i32.const 72))))))
        (i32.store (i32.const 0) (i32.const 1))
        (memory.copy (i32.const 4) (i32.const 68) (i32.const 12))
        (return (i32.const 0))))
    ;; n: answers what is no JSON
    (if (i32.eq (local.get $what) (i32.const 110)) (then (return (call $ok (i32.const 287) (i32.const 8)))))
    ;; c: tells how many actions this instance has served, as one digit
    (if (i32.eq (local.get $what) (i32.const 99))
      (then
        (i32.store8 (i32.const 128) (i32.add (i32.const 48) (global.get $calls)))
        (return (call $ok (i32.const 128) (i32.const 1)))))
    ;; anything else: not-found
    (i32.store (i32.const 0) (i32.const 1))
    (i32.store (i32.const 4) (i32.const 0))
    (i32.const 0))
)
