package lab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process reads the wall clock through the vDSO, a page of code that the kernel
// maps into it. Before the process runs its first instruction, that code is
// replaced in it by clockCode, which asks the kernel and adds a number of seconds
// if it is the wall clock that is asked for. To step the clock is to write that
// number. Other processes, and the clocks that leases count by, see nothing of it.

// clockCode is for amd64:
//
//	mov eax, 228 (clock_gettime); syscall; test eax, eax; jnz out
//	test edi, edi (CLOCK_REALTIME); jnz out; mov rcx, [rip+10]; add [rsi], rcx; out: ret
const clockCode = "\xb8\xe4\x00\x00\x00\x0f\x05\x85\xc0\x75\x0e\x85\xff\x75\x0a\x48\x8b\x0d\x0a\x00\x00\x00\x48\x01\x0e\xc3"

// clockOffset is where the number of seconds is, from the start of the code.
const clockOffset = 32

var errNoClock = errors.New("the clock of this process cannot be stepped")

// ClocksStep reports whether the clocks of processes can be stepped here.
func ClocksStep() bool { return runtime.GOARCH == "amd64" }

// startTraced starts a process and changes how it reads the wall clock. The calling
// goroutine must be locked to its thread.
func startTraced(cmd *exec.Cmd) error {
	if !ClocksStep() {
		return cmd.Start()
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	// A process whose clock cannot be stepped is started all the same: StepClock
	// says so to whoever wants to.
	_ = patchClock(pid)
	if err := unix.PtraceDetach(pid); err != nil {
		return fmt.Errorf("let process %d run: %w", pid, err)
	}
	return nil
}

func patchClock(pid int) error {
	at, err := clockAddress(pid)
	if err != nil {
		return err
	}
	code := make([]byte, clockOffset+8)
	copy(code, clockCode)
	return writeMemory(pid, at, code)
}

// StepClock sets how far the wall clock of a process is ahead, or with a negative
// offset behind. Whole seconds count.
func StepClock(pid int, offset time.Duration) error {
	at, err := clockAddress(pid)
	if err != nil {
		return err
	}
	found, err := readMemory(pid, at, len(clockCode))
	if err != nil {
		return err
	}
	if string(found) != clockCode {
		return errNoClock
	}
	seconds := uint64(int64(offset / time.Second)) //nolint:gosec // two's complement is what the processor adds
	return writeMemory(pid, at+clockOffset, binary.LittleEndian.AppendUint64(nil, seconds))
}

// clockAddress finds the code that reads the clock in a process.
func clockAddress(pid int) (int64, error) {
	if !ClocksStep() {
		return 0, errNoClock
	}
	base, err := vdsoBase(pid)
	if err != nil {
		return 0, err
	}
	const most = 16 << 10 // the vDSO is two pages or so
	image, err := readMemory(pid, base, most)
	if len(image) == 0 {
		return 0, err
	}
	vdso, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("vDSO: %w", err)
	}
	symbols, err := vdso.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			return base + int64(s.Value), nil //nolint:gosec // an offset in a few pages
		}
	}
	return 0, errNoClock
}

func vdsoBase(pid int) (int64, error) {
	auxv, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		return 0, err
	}
	const pair, sysinfoEHDR = 16, 33
	for ; len(auxv) >= pair; auxv = auxv[pair:] {
		if binary.LittleEndian.Uint64(auxv) == sysinfoEHDR {
			return int64(binary.LittleEndian.Uint64(auxv[8:])), nil //nolint:gosec // an address of user space
		}
	}
	return 0, errNoClock
}

func memory(pid int) string { return fmt.Sprintf("/proc/%d/mem", pid) }

// readMemory reads n bytes, or as many as there are.
func readMemory(pid int, at int64, n int) (_ []byte, err error) {
	f, err := os.Open(memory(pid))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	found := make([]byte, 0, n)
	const page = 4096
	for len(found) < n {
		part := make([]byte, min(page, n-len(found)))
		got, err := f.ReadAt(part, at+int64(len(found)))
		found = append(found, part[:got]...)
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

func writeMemory(pid int, at int64, content []byte) (err error) {
	f, err := os.OpenFile(memory(pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteAt(content, at)
	return err
}
