package card

// A Quota bounds what an application may take of the memory, bytes; 0 is no
// bound (GPCS 9.7). Granted is a security domain's: it bounds the domain with
// everything associated with it, at any depth. Working memory is not counted as
// it is used: its quotas are promises that are added up.
type Quota struct {
	Own, Granted                 uint32 // EEPROM
	OwnVolatile, GrantedVolatile uint32
}

// volatileMemory is the working memory that can be promised, bytes.
const volatileMemory = 16 << 10

// Used counts the bytes of EEPROM that an entry has taken, its line in the
// registry and the headers of its regions included.
func (r Registry) Used(id ID) int {
	n, m := 0, r.e.mem
	for b, ok := m.first(); ok; b, ok = m.after(b) {
		if b.state == blockUsed && b.owner == id {
			n += blockHeader + b.size
		}
	}
	return n
}

// UsedUnder counts what a security domain has taken together with everything
// associated with it, at any depth.
func (r Registry) UsedUnder(id ID) int {
	n := 0
	for _, x := range r.under(id) {
		n += r.Used(x.ID)
	}
	return n
}

// VolatileUnder adds up the working memory promised below a security domain.
func (r Registry) VolatileUnder(id ID) int {
	n := 0
	for _, x := range r.under(id) {
		n += int(x.Quota.OwnVolatile)
	}
	return n
}

// under lists an entry and everything associated with it, at any depth.
func (r Registry) under(id ID) []Entry {
	top, ok := r.Entry(id)
	if !ok {
		return nil
	}
	all := r.Entries()
	list := []Entry{top}
	for i := 0; i < len(list); i++ {
		for _, y := range all {
			if y.Domain == list[i].AID && y.ID != list[i].ID && y.ID != top.ID {
				list = append(list, y)
			}
		}
		if len(list) > MaxEntries {
			return list // a ring of domains; extradition does not make one
		}
	}
	return list
}

// within tells whether x and the domains above it keep to their quotas.
func (r Registry) within(x Entry) bool {
	if q := x.Quota.Own; q != 0 && r.Used(x.ID) > int(q) {
		return false
	}
	if x.Quota.OwnVolatile != 0 && r.VolatileUnder(domainID) > volatileMemory {
		return false
	}
	for range MaxEntries {
		if q := x.Quota.Granted; q != 0 && r.UsedUnder(x.ID) > int(q) {
			return false
		}
		if q := x.Quota.GrantedVolatile; q != 0 && r.VolatileUnder(x.ID) > int(q) {
			return false
		}
		if x.Kind == Domain {
			break
		}
		above, ok := r.Find(x.Domain)
		if !ok || above.ID == x.ID {
			break
		}
		x = above
	}
	return true
}

// Within tells whether an entry and the domains above it keep to their quotas,
// for what moves entries or changes quotas: past them is 6A84.
func (r Registry) Within(id ID) bool {
	x, ok := r.Entry(id)
	return ok && r.within(x)
}
