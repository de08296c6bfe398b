package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"koala/pcsc"
	"koala/spec/iso7816"
)

// OpenSC's own programs, which try every driver they have on the card, find
// nothing that is theirs under any personality and leave the band as it was.
func TestOpenSCFindsNothing(t *testing.T) {
	r := newRig(t)
	file := r.band()
	for _, p := range pcsc.Personalities() {
		stop := r.serve(file, p.Name)
		stop()
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stop = r.serve(file, p.Name)
		for _, args := range [][]string{
			{"opensc-tool", "-r", "0", "-n", "--serial"}, {"opensc-tool", "-r", "0", "-f"},
			{"pkcs15-tool", "-r", "0", "-D"}, {"pkcs11-tool", "-L"}, {"pkcs11-tool", "-O"}, {"opensc-tool", "-r", "0", "--reset", "-a"},
		} {
			tool := exec.CommandContext(r.within(patience), args[0], args[1:]...)
			tool.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+r.socket())
			out, _ := tool.CombinedOutput() // they end as they like: nothing here is theirs
			t.Logf("%s, %s: %s", p.Name, strings.Join(args, " "), bytes.ReplaceAll(out, []byte("\n"), []byte(" | ")))
		}
		k := r.connect(true)
		r.does(k, selectPurse+"00", iso7816.OK)
		_ = k.Close()
		if s := stop(); s.code != exitFine || s.errs != "" {
			t.Errorf("%s: serve ended with %d: %s", p.Name, s.code, s.errs)
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s: the band has changed, %v", p.Name, err)
		}
	}
}
