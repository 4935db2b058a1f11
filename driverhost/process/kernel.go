package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// killTimer has the kernel end this process with SIGKILL, even if none of its
// threads runs: in a busy loop, stopped, or waiting in another system call.
type killTimer struct{ id int32 }

// sigevent is struct sigevent of the kernel, which is 64 bytes large.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	_      [64 - unsafe.Sizeof(uintptr(0)) - 8]byte
}

func newKillTimer() (*killTimer, error) {
	const signal = 0 // SIGEV_SIGNAL
	event := sigevent{signo: int32(unix.SIGKILL), notify: signal}
	t := &killTimer{}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&t.id)))
	if errno != 0 {
		return nil, fmt.Errorf("timer_create: %w", errno)
	}
	return t, nil
}

// arm sets when on CLOCK_BOOTTIME the process ends, instead of an earlier setting.
func (t *killTimer) arm(at time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), unix.TIMER_ABSTIME,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}

// lifeline is the pipe whose other end only the agent has, and to which nothing is
// ever written.
const lifeline = 0

// lockDescriptor is where the agent hands over the lock on the service.
const lockDescriptor = 3

// dieWithAgent has the kernel kill this process, and what it has started, when the
// agent dies: the end of the lifeline counts as a signal. A thread that does nothing
// else but wait for that end is the second net.
func dieWithAgent() error {
	var stat unix.Stat_t
	if err := unix.Fstat(lifeline, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		return fmt.Errorf("standard input is no pipe to an agent: %w", errNotStarted)
	}
	owner := os.Getpid()
	if unix.Getpgrp() == owner {
		owner = -owner // all of the group
	}
	flags, err := unix.FcntlInt(lifeline, unix.F_GETFL, 0)
	for _, set := range [][2]int{{unix.F_SETOWN, owner}, {unix.F_SETSIG, int(unix.SIGKILL)}, {unix.F_SETFL, flags | unix.O_ASYNC}} {
		if err == nil {
			_, err = unix.FcntlInt(lifeline, set[0], set[1])
		}
	}
	if err != nil {
		return fmt.Errorf("watch the pipe to the agent: %w", err)
	}
	go awaitAgentsEnd(owner)
	return nil
}

// awaitAgentsEnd lives as long as the process.
func awaitAgentsEnd(owner int) {
	runtime.LockOSThread()
	var buf [1]byte
	for {
		if _, err := unix.Read(lifeline, buf[:]); err == nil || !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			_ = unix.Kill(owner, unix.SIGKILL) // this process is the target: nobody is left to tell
		}
	}
}

// keepLock makes sure that what the driver starts inherits the lock, also when it
// passes files of its own on as descriptor 3.
func keepLock() error {
	const high = 100
	if _, err := unix.FcntlInt(lockDescriptor, unix.F_DUPFD, high); err != nil {
		return fmt.Errorf("descriptor %d is no lock of an agent: %w: %w", lockDescriptor, err, errNotStarted)
	}
	return nil
}
