package catalog_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"io"
	"os"
	"testing"

	"koala/card"
	"koala/card/catalog"
	"koala/card/directory"
	"koala/card/isd"
	"koala/internal/clock"
	gp "koala/spec/globalplatform"
	"koala/spec/iso7816"
)

// oldImage reads an image that the program wrote before registry entries had
// contactless data: a card with purses ..00 (12.34) and ..01 (12.35). The torn
// one was cut while a third purse was being issued.
func oldImage(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// An image of version 1 restores with everything on it, activated and always on
// as transit is, and gets the directories and the registry that it never had.
func TestOldImages(t *testing.T) {
	for _, name := range []string{"image-v1.gz", "image-v1-torn.gz"} {
		e, err := catalog.New(isd.Config{}).Restore(oldImage(t, name), clock.Random(4))
		if err != nil {
			t.Fatal(name, err)
		}
		m := &manager{t: t, e: e}
		for i := range 2 {
			aid := gp.AID(catalog.PurseModule) + gp.AID([]byte{byte(i)})
			if err := e.PowerOn(card.Contactless); err != nil {
				t.Fatal(err)
			}
			if got := m.load(aid, 1_00); got != uint32(13_34+i) {
				t.Errorf("%s: purse %d holds %d", name, i, got)
			}
		}
		m.open(0x03) // the keys and their counter are there
		for _, x := range m.registry() {
			if c := x.Contactless; x.Kind == card.Application && (c.State != card.Activated && x.State >= gp.Selectable || !c.Always || c.Order == 0) {
				t.Errorf("%s: %v has %+v", name, x.AID, c)
			}
		}
		for _, aid := range []card.AID{directory.PPSEName, directory.PSEName, catalog.Registry} {
			if _, ok := m.find(aid); !ok {
				t.Errorf("%s: no %v", name, aid)
			}
		}
		again, err := catalog.New(isd.Config{}).Restore(e.Image(), clock.Random(4))
		if err != nil || !bytes.Equal(again.Image(), e.Image()) {
			t.Errorf("%s: the new image does not come back as it is: %v", name, err)
		}
	}
}

// registry lists the element's registry from inside.
func (m *manager) registry() (list []card.Entry) {
	m.t.Helper()
	m.e.PowerOff()
	if sw, err := m.e.Factory(func(s *card.Session) iso7816.SW {
		list = s.Registry().Entries()
		return iso7816.OK
	}); err != nil || !sw.OK() {
		m.t.Fatal(sw, err)
	}
	return list
}

func (m *manager) find(aid card.AID) (card.Entry, bool) {
	for _, x := range m.registry() {
		if x.AID == aid {
			return x, true
		}
	}
	return card.Entry{}, false
}

// A full element of the old layout restores all the same: the longer entries get
// cells of their own.
func TestOldFullElement(t *testing.T) {
	image := oldImage(t, "image-v1.gz")
	// The capacity stands behind magic, version and UID: as small as what is used.
	cells := len(image) - sha256.Size - 38
	body := bytes.Clone(image[:len(image)-sha256.Size])
	body[18], body[19], body[20], body[21] = 0, 0, byte(cells>>8), byte(cells)
	sum := sha256.Sum256(body)
	e, err := catalog.New(isd.Config{}).Restore(append(body, sum[:]...), clock.Random(4))
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, e: e}
	if err := e.PowerOn(card.Contactless); err != nil {
		t.Fatal(err)
	}
	if got := m.load(gp.AID(catalog.PurseModule)+"\x00", 1_00); got != 13_34 {
		t.Errorf("the purse holds %d", got)
	}
}

// An element that was cut in the middle of a command and is then given a larger
// catalogue: the command is finished or forgotten first, as without one.
func TestStockAfterACut(t *testing.T) {
	larger := catalog.New(isd.Config{})
	larger.Add("\xF0koala\x77", "\xF0koala\x77\x01", card.Module{New: func() card.Applet { return nil }})
	purse := gp.AID(catalog.PurseModule)
	install := gp.InstallApplet(gp.AID(catalog.PurseLoadFile), purse, purse, gp.Privileges{}, nil).Command()
	seen := map[bool]bool{}
	for n := 1; ; n++ {
		m := newManager(t, gp.AES)
		m.open(0x01)
		w, err := m.h.Wrap(install)
		if err != nil {
			t.Fatal(err)
		}
		m.e.Memory().CutAt(n, 64)
		_, err = m.e.Transmit(w)
		image := m.e.Image()
		var there [2]bool
		for i, c := range []*catalog.Catalog{catalog.New(isd.Config{}), larger} {
			e, err := c.Restore(image, clock.Random(5))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.PowerOn(card.Contact); err != nil {
				t.Fatal(err)
			}
			_, there[i] = (&manager{t: t, e: e}).find(card.AID(purse))
			if _, ok := (&manager{t: t, e: e}).find("\xF0koala\x77"); ok != (i == 1) {
				t.Errorf("write %d: the new load file is there: %v", n, ok)
			}
		}
		if there[0] != there[1] {
			t.Fatalf("write %d: installed %v, with the larger catalogue %v", n, there[0], there[1])
		}
		seen[there[0]] = true
		if err == nil {
			break
		}
	}
	if len(seen) != 2 {
		t.Errorf("only %v was seen", seen)
	}
}
