package pcsc

import (
	"net"
	"syscall"
)

// quickAck lets the kernel acknowledge what arrives next at once. The setting
// wears off by itself, so it is made anew before every read.
func quickAck(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	// Without it commands are slow, not wrong: a refusal is no reason to stop.
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
}
