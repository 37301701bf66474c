package keystore

import "golang.org/x/sys/unix"

// yieldProcessor lets other threads that wait for this core have it (sched_yield(2)).
// Where none waits it returns at once.
func yieldProcessor() {
	_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
}
