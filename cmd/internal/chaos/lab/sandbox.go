package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stageVariable says, in the environment, which of the three processes of a
// sandboxed run this one is.
const stageVariable = "LOCKSTEP_CHAOS_STAGE"

const (
	stageInit   = "init"
	stageWorker = "worker"
	stagePlain  = "plain"
)

// lifelineFD is open in the init process until the outer one is gone.
const lifelineFD = 3

// patience is how long a worker that was asked to end may clean up.
const patience = 60 * time.Second

// Enter runs this program again in namespaces of processes, mounts and network of
// its own, so that the kernel cleans up whatever happens to it: when the first
// process of the namespaces is gone, so are all others, their mounts and their
// networks. It returns done and the exit code in the processes that only wait;
// the worker goes on with done false. Where namespaces are not allowed there is
// no sandbox, and the worker is told so by [Sandboxed].
func Enter() (done bool, code int) {
	switch os.Getenv(stageVariable) {
	case stageWorker, stagePlain:
		return false, 0
	case stageInit:
		return true, initProcess()
	}
	code, err := outerProcess()
	if err != nil {
		_ = os.Setenv(stageVariable, stagePlain) // read by Sandboxed; it cannot be invalid
		return false, 0
	}
	return true, code
}

// Sandboxed reports whether this process is the worker of a sandbox.
func Sandboxed() bool { return os.Getenv(stageVariable) == stageWorker }

// again is this program with the same arguments, as another stage.
func again(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // it ends when it is told to, after cleaning up
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVariable+"="+stage)
	return cmd
}

// outerProcess makes the namespaces and waits. An error says that they are not
// allowed here.
func outerProcess() (code int, err error) {
	held, lifeline, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer func() { _ = lifeline.Close() }() // it only has to be open until here
	cmd := again(stageInit)
	cmd.ExtraFiles = []*os.File{held}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, errors.Join(err, held.Close())
	}
	if err := held.Close(); err != nil {
		return 0, err
	}
	go forward(signals, cmd.Process)
	return exitCode(cmd.Wait()), nil
}

func forward(signals <-chan os.Signal, to *os.Process) {
	for s := range signals {
		_ = to.Signal(s) // one that has ended needs none
	}
}

func exitCode(err error) int {
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(ended.ExitCode(), 1)
	}
	if err != nil {
		return 1
	}
	return 0
}

// initProcess is the first process of the namespaces. It reaps, as the first
// process has to, and ends with the worker, or when the outer process is gone.
func initProcess() int {
	if err := privateMounts(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: sandbox:", err)
		return 1
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	worker := again(stageWorker)
	worker.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := worker.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: sandbox:", err)
		return 1
	}
	go forward(signals, worker.Process)
	go watchLifeline(worker.Process)
	return reap(worker.Process.Pid)
}

// watchLifeline asks the worker to clean up when the outer process is gone, and
// ends everything if it does not. A frozen file system would outlive us.
func watchLifeline(worker *os.Process) {
	held := os.NewFile(lifelineFD, "lifeline")
	_, _ = held.Read(make([]byte, 1)) // it ends when the other end is gone
	_ = worker.Signal(syscall.SIGTERM)
	<-time.After(patience)
	thawAll()
	os.Exit(1)
}

func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	return nil
}

// reap waits for all processes until the worker has ended, and returns its code.
func reap(worker int) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 1
		case pid != worker:
			continue
		}
		thawAll() // the worker may have been killed
		if status.Exited() {
			return status.ExitStatus()
		}
		return 1
	}
}
