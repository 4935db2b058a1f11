package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// socketOf is the inode of the TCP socket of this machine that has a port of the
// loopback address, as proc(5) lists it, or empty.
func socketOf(port int) string {
	content, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	local := fmt.Sprintf("0100007F:%04X", port)
	for line := range strings.Lines(string(content)) {
		const localAddress, remoteAddress, inode = 1, 2, 9
		fields := strings.Fields(line)
		if len(fields) > inode && fields[localAddress] == local && fields[remoteAddress] != "00000000:0000" && fields[inode] != "0" {
			return fields[inode]
		}
	}
	return ""
}

// holds reports whether a process has a socket open.
func holds(pid int, inode string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}
