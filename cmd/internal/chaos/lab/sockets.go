package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// inodeOf asks the kernel (sock_diag(7)) for the inode of the TCP socket of this
// machine that is connected from one port of the loopback address to another.
func inodeOf(from, to int) (_ uint32, err error) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(s)) }()
	if err := unix.Sendto(s, socketQuestion(from, to), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(s, answer, 0)
	if err != nil {
		return 0, err
	}
	const inodeAt = 16 + 4 + 48 + 16 // header, state, addresses, counters
	if n < inodeAt+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.SOCK_DIAG_BY_FAMILY {
		return 0, fmt.Errorf("no connection from port %d to %d", from, to)
	}
	return binary.NativeEndian.Uint32(answer[inodeAt:]), nil
}

// socketQuestion is a struct nlmsghdr and a struct inet_diag_req_v2.
func socketQuestion(from, to int) []byte {
	const length, anyState, noCookie = 16 + 56, 0xffffffff, 0xffffffff
	q := binary.NativeEndian.AppendUint32(nil, length)
	q = binary.NativeEndian.AppendUint16(q, unix.SOCK_DIAG_BY_FAMILY)
	q = binary.NativeEndian.AppendUint16(q, unix.NLM_F_REQUEST)
	q = append(q, make([]byte, 8)...) // sequence number and port
	q = append(q, unix.AF_INET, unix.IPPROTO_TCP, 0, 0)
	q = binary.NativeEndian.AppendUint32(q, anyState)
	q = binary.BigEndian.AppendUint16(q, uint16(from)) //nolint:gosec // a port
	q = binary.BigEndian.AppendUint16(q, uint16(to))   //nolint:gosec // a port
	for range 2 {                                      // source and destination
		q = append(q, 127, 0, 0, 1)
		q = append(q, make([]byte, 12)...) // of an IPv6 address
	}
	q = append(q, make([]byte, 4)...) // any interface
	q = binary.NativeEndian.AppendUint32(q, noCookie)
	return binary.NativeEndian.AppendUint32(q, noCookie)
}

// holds reports whether a process has a socket open.
func holds(pid int, inode uint32) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	want := fmt.Sprintf("socket:[%d]", inode)
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == want {
			return true
		}
	}
	return false
}
