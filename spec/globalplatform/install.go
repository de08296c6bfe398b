package globalplatform

import (
	"fmt"

	"koala/spec/iso7816"
	"koala/spec/tlv"
)

// An InstallFor says what an INSTALL is for, P1 (GPCS 11.5.2.1). Install and
// make selectable may come together.
type InstallFor byte

// What INSTALL is for.
const (
	ForLoad            InstallFor = 0x02
	ForInstall         InstallFor = 0x04
	ForSelectable      InstallFor = 0x08
	ForInstallSelect   InstallFor = ForInstall | ForSelectable
	ForExtradition     InstallFor = 0x10
	ForPersonalization InstallFor = 0x20
	ForRegistryUpdate  InstallFor = 0x40
	// MoreInstall marks a part of a command whose data goes on in the next one.
	MoreInstall byte = 0x80
)

// Tags of the parameters of INSTALL (GPCS 11.5.2.3.7).
const (
	TagParams       tlv.Tag = 0xC9 // for the application, its Install receives them
	TagSystemParams tlv.Tag = 0xEF
	TagImplicit     tlv.Tag = 0xCF // in EF: implicit selection

	// In EF: memory quotas, two or four bytes each (GPCS 9.7). Of the last two,
	// which are a security domain's, only their numbers are known from a second
	// hand; which is which follows the order of the others.
	tagCodeMinimum     tlv.Tag = 0xC6
	tagVolatile        tlv.Tag = 0xC7
	tagNonVolatile     tlv.Tag = 0xC8
	tagGrantedVolatile tlv.Tag = 0x82
	tagGranted         tlv.Tag = 0x83
)

// An Install is any variant of INSTALL (GPCS 11.5). Which fields count depends
// on what it is for; the others are left out.
type Install struct {
	For        InstallFor
	LoadFile   AID        // load, install
	Module     AID        // install
	App        AID        // the instance; extradition: the application or load file
	Domain     AID        // load, extradition: the security domain it is to belong to
	Privileges Privileges // install, make selectable, registry update
	Keep       bool       // registry update: privileges stay as they are
	Hash       []byte     // load: of the load file data block
	Params     []byte     // TLV; see TagParams
	Token      []byte     // delegated management
}

// InstallApplet is install and make selectable with application parameters.
func InstallApplet(loadFile, module, instance AID, p Privileges, params []byte) Install {
	return Install{For: ForInstallSelect, LoadFile: loadFile, Module: module, App: instance, Privileges: p,
		Params: tlv.Append(nil, TagParams, params)}
}

// Personalize makes the security domain pass the following STORE DATA to app.
func Personalize(app AID) Install { return Install{For: ForPersonalization, App: app} }

// Command codes the command in plain. Data beyond 255 bytes needs Commands.
func (in Install) Command() iso7816.Command { return plain(InsInstall, byte(in.For), 0, in.Data()) }

// Commands cuts the command into parts of at most limit data bytes.
func (in Install) Commands(limit int) []iso7816.Command {
	data := in.Data()
	var out []iso7816.Command
	for len(data) > limit {
		out = append(out, plain(InsInstall, byte(in.For)|MoreInstall, 0, data[:limit:limit]))
		data = data[limit:]
	}
	return append(out, plain(InsInstall, byte(in.For), 0, data))
}

// Data codes the length-value fields.
func (in Install) Data() []byte {
	var fields [][]byte
	switch priv := in.Privileges.Bytes(); in.For {
	case ForLoad:
		fields = [][]byte{[]byte(in.LoadFile), []byte(in.Domain), in.Hash, in.Params, in.Token}
	case ForExtradition:
		fields = [][]byte{[]byte(in.Domain), nil, []byte(in.App), nil, in.Params, in.Token}
	case ForPersonalization:
		fields = [][]byte{nil, nil, []byte(in.App), nil, nil, nil}
	case ForSelectable:
		fields = [][]byte{nil, nil, []byte(in.App), priv, in.Params, in.Token}
	case ForRegistryUpdate:
		if in.Keep {
			priv = nil
		}
		fields = [][]byte{[]byte(in.Domain), nil, []byte(in.App), priv, in.Params, in.Token}
	default:
		fields = [][]byte{[]byte(in.LoadFile), []byte(in.Module), []byte(in.App), priv, in.Params, in.Token}
	}
	var out []byte
	for _, f := range fields {
		out = appendLV(out, f)
	}
	return out
}

func appendLV(dst, v []byte) []byte {
	switch n := len(v); {
	case n > 0xFF:
		dst = append(dst, 0x82, byte(n>>8), byte(n))
	case n > dataElementLimit:
		dst = append(dst, 0x81, byte(n))
	default:
		dst = append(dst, byte(n))
	}
	return append(dst, v...)
}

func nextLV(in []byte) (v, rest []byte, err error) {
	bad := fmt.Errorf("%w: a field of INSTALL ends early", ErrCommand)
	if len(in) == 0 {
		return nil, nil, bad
	}
	n, head := int(in[0]), 1
	switch {
	case n == 0x81 && len(in) > 1:
		n, head = int(in[1]), 2
	case n == 0x82 && len(in) > 2:
		n, head = int(in[1])<<8|int(in[2]), 3
	case n > dataElementLimit:
		return nil, nil, bad
	}
	if len(in) < head+n {
		return nil, nil, bad
	}
	return in[head : head+n : head+n], in[head+n:], nil
}

// ParseInstall reads the command in plain; parts must have been put together,
// and the last part's P1 tells what it is for.
func ParseInstall(c iso7816.Command) (Install, error) {
	if err := expect(c, InsInstall); err != nil {
		return Install{}, err
	}
	in := Install{For: InstallFor(c.P1)}
	n := 6
	switch in.For {
	case ForLoad:
		n = 5
	case ForInstall, ForSelectable, ForInstallSelect, ForExtradition, ForPersonalization, ForRegistryUpdate:
	default:
		return Install{}, fmt.Errorf("%w: INSTALL for %02X", ErrCommand, c.P1)
	}
	fields := make([][]byte, n)
	rest := c.Data
	for i := range fields {
		if i == n-1 && len(rest) == 0 {
			break // a missing token length is an empty token to everybody
		}
		var err error
		if fields[i], rest, err = nextLV(rest); err != nil {
			return Install{}, err
		}
	}
	if len(rest) != 0 {
		return Install{}, fmt.Errorf("%w: INSTALL has %d bytes too many", ErrCommand, len(rest))
	}
	return in, in.fill(fields)
}

func (in *Install) fill(f [][]byte) error {
	in.Params, in.Token = f[len(f)-2], f[len(f)-1]
	var aids []*AID
	var priv []byte
	switch in.For {
	case ForLoad:
		aids, in.Hash = []*AID{&in.LoadFile, &in.Domain}, f[2]
	case ForExtradition, ForRegistryUpdate:
		aids, priv = []*AID{&in.Domain, nil, &in.App}, f[3]
		in.Keep = len(priv) == 0
	case ForPersonalization, ForSelectable:
		aids, priv = []*AID{nil, nil, &in.App}, f[3]
	default:
		aids, priv = []*AID{&in.LoadFile, &in.Module, &in.App}, f[3]
	}
	for i, to := range aids {
		if len(f[i]) != 0 && (to == nil || !AID(f[i]).valid()) {
			return fmt.Errorf("%w: INSTALL field %d is no AID expected there", ErrCommand, i+1)
		}
		if to != nil {
			*to = AID(f[i])
		}
	}
	switch n := len(priv); {
	case n > 0 && (in.For == ForExtradition || in.For == ForPersonalization), in.For == ForPersonalization && len(f[4])+len(f[5]) > 0:
		return fmt.Errorf("%w: INSTALL for %02X with a field it does not have", ErrCommand, byte(in.For))
	case n == 0, n == 1, n == 3:
		copy(in.Privileges[:], priv)
	default:
		return fmt.Errorf("%w: %d bytes of privileges", ErrCommand, len(priv))
	}
	if err := tlv.Walk(in.Params, func(int, tlv.Tag, []byte) error { return nil }); err != nil {
		return fmt.Errorf("%w: INSTALL parameters: %w", ErrCommand, err)
	}
	return in.require()
}

// require refuses an INSTALL without the AIDs its variant is about.
func (in *Install) require() error {
	missing := in.App == ""
	switch in.For {
	case ForLoad:
		missing = in.LoadFile == ""
	case ForInstall, ForInstallSelect:
		missing = in.LoadFile == "" || in.Module == ""
		if in.App == "" {
			in.App = in.Module // GPCS 11.5.2.3.2: no instance AID, the module's serves
		}
	case ForExtradition:
		missing = in.App == "" || in.Domain == ""
	}
	if missing {
		return fmt.Errorf("%w: INSTALL for %02X names no application", ErrCommand, byte(in.For))
	}
	return nil
}

// AppParams is the value of C9, what the instance itself receives.
func (in Install) AppParams() []byte {
	v, _ := tlv.Find(in.Params, TagParams)
	return v
}

// Implicit is the implicit selection parameter (GPCS 11.1.7) if the system
// parameters carry one.
func (in Install) Implicit() (byte, bool) {
	system, ok := tlv.Find(in.Params, TagSystemParams)
	if !ok {
		return 0, false
	}
	v, ok := tlv.Find(system, TagImplicit)
	if !ok || len(v) != 1 {
		return 0, false
	}
	return v[0], true
}

// SystemParams are the system specific parameters EF of INSTALL, as far as cards
// here know them. A quota of 0 is none.
type SystemParams struct {
	Code                     uint32 // load: EEPROM the code needs at least
	Volatile, NonVolatile    uint32 // quotas of the application itself
	GrantedVolatile, Granted uint32 // of a security domain with all that is associated with it
	Implicit                 []byte // implicit selection parameters, one byte each
	Contactless              *ContactlessParams
}

// ContactlessParams are the contactless parameters in EF (Amendment C): A0 of
// the protocol, A1 of what a wallet shows.
type ContactlessParams struct {
	Initial      byte // activation state to begin with
	Group        byte // 0: none; see the contactless registry
	Family       byte // AFI, 0: not told
	NeedsDisplay bool
	Interaction  []byte // further objects of A1
}

// Append codes EF behind dst, which usually holds C9.
func (p SystemParams) Append(dst []byte) []byte {
	var body []byte
	for _, q := range []struct {
		tag tlv.Tag
		n   uint32
	}{{tagCodeMinimum, p.Code}, {tagVolatile, p.Volatile}, {tagNonVolatile, p.NonVolatile},
		{tagGrantedVolatile, p.GrantedVolatile}, {tagGranted, p.Granted}} {
		switch {
		case q.n > 0xFFFF:
			body = tlv.Append(body, q.tag, []byte{byte(q.n >> 24), byte(q.n >> 16), byte(q.n >> 8), byte(q.n)})
		case q.n > 0:
			body = tlv.Append(body, q.tag, []byte{byte(q.n >> 8), byte(q.n)})
		}
	}
	for _, i := range p.Implicit {
		body = tlv.Append(body, TagImplicit, []byte{i})
	}
	if p.Contactless != nil {
		body = p.Contactless.append(body)
	}
	return tlv.Append(dst, TagSystemParams, body)
}

func (c ContactlessParams) append(dst []byte) []byte {
	protocol := tlv.Append(nil, tagInitial, []byte{c.Initial})
	if c.Group != 0 {
		protocol = tlv.Append(protocol, tagProtocolSet, []byte{c.Group})
	}
	dst = tlv.Append(dst, tagProtocol, protocol)
	var user []byte
	if c.Family != 0 {
		user = tlv.Append(user, TagFamily, []byte{0, c.Family})
	}
	if c.NeedsDisplay {
		user = tlv.Append(user, TagDisplay, []byte{0})
	}
	if user = append(user, c.Interaction...); len(user) > 0 {
		dst = tlv.Append(dst, tagUser, user)
	}
	return dst
}

// System reads the system specific parameters. Objects it does not know are
// passed over; one with a value that cannot be is an error.
func (in Install) System() (p SystemParams, err error) {
	var rest []byte
	for all := in.Params; len(all) > 0; {
		tag, v, after, err := tlv.Next(all)
		if err != nil {
			return p, fmt.Errorf("%w: INSTALL parameters", ErrCommand)
		}
		if tag == TagSystemParams {
			rest = v
		}
		all = after
	}
	for len(rest) > 0 {
		var tag tlv.Tag
		var v []byte
		if tag, v, rest, err = tlv.Next(rest); err != nil || !p.set(tag, v) {
			return p, fmt.Errorf("%w: system specific parameter %v", ErrCommand, tag)
		}
	}
	return p, nil
}

func (p *SystemParams) set(tag tlv.Tag, v []byte) bool {
	quota := map[tlv.Tag]*uint32{tagCodeMinimum: &p.Code, tagVolatile: &p.Volatile, tagNonVolatile: &p.NonVolatile,
		tagGrantedVolatile: &p.GrantedVolatile, tagGranted: &p.Granted}[tag]
	switch {
	case quota != nil:
		if len(v) != 2 && len(v) != 4 {
			return false
		}
		*quota = 0
		for _, b := range v {
			*quota = *quota<<8 | uint32(b)
		}
	case tag == TagImplicit:
		p.Implicit = append(p.Implicit, v...)
	case tag == tagProtocol, tag == tagUser:
		if p.Contactless == nil {
			p.Contactless = &ContactlessParams{Initial: Activated}
		}
		return p.Contactless.read(tag, v)
	}
	return true
}

func (c *ContactlessParams) read(template tlv.Tag, in []byte) bool {
	for len(in) > 0 {
		tag, v, rest, err := tlv.Next(in)
		if err != nil {
			return false
		}
		switch {
		case template == tagProtocol && tag == tagInitial:
			if len(v) != 1 || v[0] != Activated && v[0] != Deactivated && v[0] != NonActivatable {
				return false
			}
			c.Initial = v[0]
		case template == tagProtocol && tag == tagProtocolSet && len(v) == 1:
			c.Group = v[0]
		case template == tagProtocol:
		case tag == TagFamily && len(v) > 0 && len(v) <= 2:
			c.Family = v[len(v)-1]
		case tag == TagDisplay && len(v) == 1:
			c.NeedsDisplay = v[0] == 0
		default:
			c.Interaction = append(c.Interaction, in[:len(in)-len(rest)]...)
		}
		in = rest
	}
	return true
}
