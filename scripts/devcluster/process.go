package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is one that was started here.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// StartProcess starts a process whose output goes to a file. It is in a group of
// its own and outlives ctx: an interrupt of the terminal is for who started it, who
// then ends it.
func StartProcess(ctx context.Context, argv []string, log string) (p *Process, err error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()                       // the process has its own
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...) //nolint:gosec // the command is what the tools are about
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p = &Process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // how it ended is nobody's business: it is ended
	}()
	return p, nil
}

// endsWithin is how long a process has to end when it was asked to.
const endsWithin = 20 * time.Second

// End ends the process, if there is one: by asking it to, and by force when it does
// not, which is an error.
func (p *Process) End() error {
	if p == nil {
		return nil
	}
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(endsWithin)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
		return errors.Join(fmt.Errorf("%s did not end when asked", p.cmd.Args[0]), err)
	}
}
