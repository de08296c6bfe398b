package iso8583

import (
	"syscall"
	"testing"
	"time"
)

// full is a sale of 20 fields with chip data, PIN and MAC in the POS dialect:
// the published pos-pay-request.
func full(t testing.TB) []byte {
	for _, p := range messages(t) {
		if p.ID == "pos-pay-request" {
			return unhex(t, p.Hex)
		}
	}
	t.Fatal("no such message")
	return nil
}

func BenchmarkUnpack(b *testing.B) {
	in := full(b)
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Unpack(UnionPayPOS(), in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	in, out := full(b), make([]byte, 0, 1024)
	var m Message
	if err := m.Unpack(UnionPayPOS(), in); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.AppendTo(out[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPackUnpack is the figure of issue 4: at least 1,000,000 a second.
func BenchmarkPackUnpack(b *testing.B) {
	in, out := full(b), make([]byte, 0, 1024)
	var m Message
	fields := 0
	if err := m.Unpack(UnionPayPOS(), in); err != nil {
		b.Fatal(err)
	}
	for range m.Fields() {
		fields++
	}
	b.ReportAllocs()
	spent := cpuTime(b)
	for b.Loop() {
		if err := m.Unpack(UnionPayPOS(), in); err != nil {
			b.Fatal(err)
		}
		if _, err := m.AppendTo(out[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
	b.ReportMetric(float64(b.N)/(cpuTime(b)-spent).Seconds(), "pairs/cpu-s")
	b.ReportMetric(float64(fields), "fields")
}

// BenchmarkVerify reads a sale and checks its MAC under a key of 16 bytes.
func BenchmarkVerify(b *testing.B) {
	k := key(b, "0123456789ABCDEFFEDCBA9876543210")
	var m Message
	if err := m.Unpack(UnionPayPOS(), full(b)); err != nil {
		b.Fatal(err)
	}
	in, err := m.Seal(nil, k)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Unpack(UnionPayPOS(), in); err != nil {
			b.Fatal(err)
		}
		if err := m.Verify(k); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuTime is what the process has used of its core, which other work on the
// machine does not change.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
