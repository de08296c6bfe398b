package desfire_test

import (
	"bytes"
	"testing"

	"koala/spec/desfire"
	"koala/spec/iso7816"
)

func clear(in []byte) ([]byte, error) { return in, nil }

func application(t testing.TB) desfire.Application {
	k, err := desfire.Seal(desfire.AESKey([16]byte{1}, 2), clear)
	if err != nil {
		t.Fatal(err)
	}
	return desfire.Canteen([3]desfire.SealedKey{k, k, k})
}

// FuzzParse: what any parser of the package reads writes back the same.
func FuzzParse(f *testing.F) {
	again := []func(b []byte) ([]byte, error){
		func(b []byte) ([]byte, error) { x, err := desfire.ParseFileSettings(b); return x.Bytes(), err },
		func(b []byte) ([]byte, error) {
			x, err := desfire.ParseApplication(b)
			if err != nil {
				return nil, err
			}
			out, err := x.Bytes()
			if err != nil {
				panic(err)
			}
			return out, nil
		},
		func(b []byte) ([]byte, error) { x, err := desfire.ParseMaster(b); return x.Bytes(), err },
		func(b []byte) ([]byte, error) { x, err := desfire.ParseDeletion(b); return desfire.Deletion(x), err },
		func(b []byte) ([]byte, error) { x, err := desfire.ParseSale(b); return x.Bytes(), err },
		func(b []byte) ([]byte, error) { x, err := desfire.ParseLog(b); return x.Bytes(), err },
		func(b []byte) ([]byte, error) { x, err := desfire.ParseCredential(b); return x.Bytes(), err },
		func(b []byte) ([]byte, error) { x, err := desfire.ParsePassage(b); return x.Bytes(), err },
		func(b []byte) ([]byte, error) {
			x, err := desfire.ParseVersion(b)
			v := x.Frames()
			return bytes.Join(v[:], nil), err
		},
		func(b []byte) ([]byte, error) {
			x, err := desfire.ParseSaleBatch(b)
			out, _ := x.Bytes()
			return out, err
		},
		func(b []byte) ([]byte, error) {
			x, err := desfire.ParsePassageBatch(b)
			out, _ := x.Bytes()
			return out, err
		},
		func(b []byte) ([]byte, error) {
			x, err := desfire.ParsePlan(b)
			if err != nil {
				return nil, err
			}
			return x.Bytes()
		},
		func(b []byte) ([]byte, error) {
			x, err := desfire.ParseMenu(b)
			if err != nil {
				return nil, err
			}
			return x.Bytes()
		},
	}
	for _, cmd := range []byte{desfire.CmdCreateStd, desfire.CmdCreateBackup, desfire.CmdCreateValue, desfire.CmdCreateLinear, desfire.CmdCreateCyclic} {
		again = append(again, func(b []byte) ([]byte, error) {
			x, err := desfire.ParseNewFile(cmd, b)
			if err != nil {
				return nil, err
			}
			code, out := x.Command()
			if code != cmd {
				panic("another command")
			}
			return out, nil
		})
	}
	app, err := application(f).Bytes()
	if err != nil {
		f.Fatal(err)
	}
	p, _ := plan().Bytes()
	m, _ := menu().Bytes()
	sales, _ := desfire.SaleBatch{Till: desfire.Till{1}, First: 4, Sales: []desfire.Sale{{Till: desfire.Till{1}, Seq: 9}}}.Bytes()
	passages, _ := desfire.PassageBatch{Door: 3, Passages: []desfire.Passage{{Door: 3}}}.Bytes()
	seeds := [][]byte{
		unhex("0200000000000000FFFFFF7F0000000000"), app, unhex("8D"), desfire.Deletion(5), desfire.Sale{}.Bytes(), desfire.Log{}.Bytes(),
		desfire.Credential{}.Bytes(), desfire.Passage{}.Bytes(), make([]byte, 28), sales, passages, p, m,
		unhex("01000000400000"), unhex("01030000200000"), unhex("0103000000000000FFFFFF7F8813000001"), unhex("01000000080000050000"), unhex("0102E1000000080000050000"),
	}
	for i, s := range seeds {
		f.Add(byte(i), s)
	}
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		out, err := again[int(which)%len(again)](in)
		if err == nil && !bytes.Equal(out, in) {
			t.Errorf("parser %d: %X writes %X", int(which)%len(again), in, out)
		}
	})
}

// Every seed above is read by its own parser.
func TestFixedFormsRead(t *testing.T) {
	app := application(t)
	b, err := app.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	got, err := desfire.ParseApplication(b)
	if err != nil || got.AID != desfire.CanteenAID || len(got.Keys) != 3 || len(got.Files) != 2 || got.Files[1].Settings.Max != desfire.CanteenLogs {
		t.Errorf("%+v %v", got, err)
	}
	if k, err := got.Keys[0].Open(clear); err != nil || k != desfire.AESKey([16]byte{1}, 2) {
		t.Errorf("%v %v", k, err)
	}
	if _, err := plan().Bytes(); err != nil {
		t.Error(err)
	}
	if _, err := menu().Bytes(); err != nil {
		t.Error(err)
	}
	c := desfire.Credential{Site: 1}.Sign([16]byte{}, desfire.UID{})
	d := desfire.Door([2]desfire.SealedKey{app.Keys[0], app.Keys[1]}, c)
	if _, err := d.Bytes(); err != nil {
		t.Error(err)
	}
}

// zeros is chance that never comes.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// FuzzHost: a reader survives whatever a card answers, within a session too.
func FuzzHost(f *testing.F) {
	f.Add(byte(0), []byte{2, 0x91, 0, 9, 1, 2, 3, 4, 5, 6, 7, 0x91, 0xAF, 2, 0x91, 0})
	f.Add(byte(9), []byte{18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x91, 0})
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		h := desfire.NewHost(func(c iso7816.Command) (iso7816.Response, error) {
			if len(in) == 0 {
				return iso7816.Response{}, iso7816.ErrTorn
			}
			n := min(int(in[0]), len(in)-1)
			r, err := iso7816.ParseResponse(in[1 : 1+n])
			in = in[1+n:]
			return r, err
		}, zeros{})
		key := desfire.AESKey([16]byte{}, 0)
		acts := []func() error{
			func() error { _, err := h.Version(); return err },
			func() error { _, err := h.Applications(); return err },
			func() error { _, err := h.DFNames(); return err },
			func() error { _, err := h.FileSettings(1); return err },
			func() error { _, err := h.ReadData(1, 0, 0, desfire.Enciphered); return err },
			func() error { _, err := h.ReadRecords(1, 0, 2, 17, desfire.MACed); return err },
			func() error { _, err := h.Value(1, desfire.Enciphered); return err },
			func() error { _, err := h.UID(); return err },
			func() error { _, _, _, err := h.KeySettings(); return err },
			func() error { return h.Authenticate(0, key) },
			func() error { return h.ChangeKey(0, key, nil) },
			func() error { return h.WriteData(1, 0, make([]byte, 200), desfire.Enciphered) },
			func() error { return h.Commit() },
		}
		for i := range 4 {
			if acts[(int(which)+i)%len(acts)]() != nil && h.Session() != nil && len(in) == 0 {
				t.Fatal("a session outlives a card that is gone")
			}
		}
	})
}
