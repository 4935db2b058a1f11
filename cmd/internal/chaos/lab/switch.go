package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses of the switched network: 10.77.0.N for node N, and harness for
// the harness. They are private to the sandbox.
const (
	prefix      = "10.77.0."
	harness     = 254
	firstPort   = 9776
	deviceName  = "chaos0"
	largestRead = 65536
)

// switched is a network of which every packet passes through this process: each
// node has a network namespace of its own with one TUN device, and what one sends
// is written to the device of another, later, or not at all.
type switched struct {
	rules *rules
	ports map[int]*port
	wg    sync.WaitGroup
}

// port is where one node, or the harness, is attached.
type port struct {
	device    *os.File
	namespace *os.File // nil for the harness, which is in that of this process
}

func newSwitch(nodes int) (s *switched, err error) {
	s = &switched{rules: newRules(), ports: map[int]*port{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	device, err := openDevice(harness)
	if err != nil {
		return s, err
	}
	s.ports[harness] = &port{device: device}
	for node := 1; node <= nodes; node++ {
		if s.ports[node], err = newPort(node); err != nil {
			return s, err
		}
	}
	for node, p := range s.ports {
		s.wg.Go(func() { s.forward(node, p) })
	}
	return s, nil
}

// newPort makes a network namespace with a device. The thread that has entered the
// namespace is given up.
func newPort(node int) (p *port, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked, so that the thread ends with the goroutine
		p, err = newPortHere(node)
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("port of node %d: %w", node, err)
	}
	return p, nil
}

func newPortHere(node int) (*port, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	device, err := openDevice(node)
	if err != nil {
		return nil, err
	}
	namespace, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, errors.Join(err, device.Close())
	}
	return &port{device: device, namespace: namespace}, nil
}

// openDevice makes a TUN device in the namespace of the calling thread, and gives
// it an address and the loopback device life.
func openDevice(host int) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	if err := configureDevice(fd, host); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), deviceName), nil
}

func configureDevice(fd, host int) error {
	device, err := unix.NewIfreq(deviceName)
	if err != nil {
		return err
	}
	device.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, device); err != nil {
		return fmt.Errorf("make %s: %w", deviceName, err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(
		setAddress(socket, unix.SIOCSIFADDR, net.ParseIP(address(host)).To4()),
		setAddress(socket, unix.SIOCSIFNETMASK, []byte{255, 255, 255, 0}),
		setUp(socket, deviceName), setUp(socket, "lo"),
	)
	return errors.Join(err, unix.Close(socket))
}

func setAddress(socket int, request uint, ip []byte) error {
	device, err := unix.NewIfreq(deviceName)
	if err != nil {
		return err
	}
	if err := device.SetInet4Addr(ip); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, request, device); err != nil {
		return fmt.Errorf("address of %s: %w", deviceName, err)
	}
	return nil
}

func setUp(socket int, name string) error {
	device, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	device.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, device); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// forward passes on what a node sends, until its device is closed.
func (s *switched) forward(from int, p *port) {
	packet := make([]byte, largestRead)
	for {
		n, err := p.device.Read(packet)
		if err != nil {
			return
		}
		const ipv4, least = 4, 20
		if n < least || packet[0]>>4 != ipv4 {
			continue
		}
		to := int(packet[19]) // the last byte of the destination
		target, ok := s.ports[to]
		if !ok {
			continue
		}
		switch lost, late := s.rules.between(from, to).fate(); {
		case lost:
		case late > 0:
			held := append([]byte{}, packet[:n]...)
			time.AfterFunc(late, func() { _, _ = target.device.Write(held) })
		default:
			_, _ = target.device.Write(packet[:n]) // a full device loses packets, as one may
		}
	}
}

func address(host int) string { return fmt.Sprintf("%s%d", prefix, host) }

// Listen implements [Network].
func (s *switched) Listen(node int, service Service) string {
	return hostPort(address(node), firstPort+int(service))
}

// Reach implements [Network].
func (s *switched) Reach(node int, service Service) string { return s.Listen(node, service) }

// Client implements [Network].
func (s *switched) Client(node int, service Service) string { return s.Listen(node, service) }

// Start implements [Network]. The process is forked from a thread in the node's
// namespace, which is given up.
func (s *switched) Start(node int, cmd *exec.Cmd) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if err = unix.Setns(int(s.ports[node].namespace.Fd()), unix.CLONE_NEWNET); err == nil {
			err = startTraced(cmd)
		}
	}()
	<-done
	if err != nil {
		return fmt.Errorf("start on node %d: %w", node, err)
	}
	return nil
}

// Break implements [Network].
func (s *switched) Break(rule Rule) (mend func()) { return s.rules.add(rule) }

// Mode implements [Network].
func (s *switched) Mode() string { return "network namespaces" }

// Close implements [Network].
func (s *switched) Close() error {
	var errs []error
	for _, p := range s.ports {
		if p == nil {
			continue
		}
		errs = append(errs, p.device.Close())
		if p.namespace != nil {
			errs = append(errs, p.namespace.Close())
		}
	}
	s.wg.Wait()
	return errors.Join(errs...)
}
