package issuing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"koala/calendar"
	"koala/customer"
	"koala/hsm"
	"koala/internal/db"
	"koala/internal/fail"
	"koala/spec/coupon"
	"koala/spec/desfire"
	"koala/spec/emv"
	"koala/spec/globalplatform"
	"koala/spec/pan"
	"koala/spec/pboc"
	"koala/spec/purse"
)

// ErrPersonalisation says that stored personalisation data cannot be read.
var ErrPersonalisation = fail.Define(fail.Broken, "issuing.personalisation", "the stored personalisation data of a card is damaged")

// A Personalisation is everything one element is personalised with, but for
// key values: those never leave the hsm. It is kept sealed, because a bank
// card's records carry its PAN, and before the first command goes out, so that
// every session writes the same card.
type Personalisation struct {
	LoadFile, Module, Instance globalplatform.AID
	Card                       CardID               // empty for a SAM
	Shared                     bool                 // other cards live in the instance too: it is neither replaced nor deleted
	Install                    []byte               // application specific parameters, tag C9 of INSTALL
	Groups                     []globalplatform.DGI // files first
	Keys                       []hsm.KeyRef
	Remove                     []globalplatform.DGI // takes the card out of a shared instance again
}

// The stored forms: 1 had purse keys only.
const (
	persoPurses  = 1
	persoVersion = 2
	maxGroups    = 128
)

// TransitPersonalisation is that of a T-Union purse: files 15 and 17, the rail record of file 1A, limits, and its
// four keys, each dispersed by its number.
func TransitPersonalisation(c Card, p Product) Personalisation {
	limits := purse.Limits{MaxBalance: uint32(p.MaxBalance.Minor())}
	key := func(i uint16, k purse.KeyKind, label string) hsm.KeyRef {
		return hsm.KeyRef{DGI: purse.DGIKeyFirst + i, Form: hsm.PurseKey, Kind: k, Index: 1, Label: label, Card: string(c.ID)}
	}
	return Personalisation{
		LoadFile: globalplatform.AID(p.Package), Module: globalplatform.AID(p.Module), Instance: globalplatform.AID(p.Instance),
		Card: c.ID,
		Groups: []globalplatform.DGI{
			{ID: purse.DGIPublic, Data: FileOf(c, p).Bytes()},
			{ID: purse.DGIRegion, Data: RegionOf(p).Bytes()},
			{ID: purse.DGITransit, Data: railRecord(c).Bytes()},
			{ID: purse.DGILimits, Data: limits.Bytes()},
		},
		Keys: []hsm.KeyRef{
			key(0, purse.DPK, hsm.LabelDPK), key(1, purse.DLK, hsm.LabelDLK),
			key(2, purse.DTK, hsm.LabelDTK), key(3, purse.DAMK, hsm.LabelDAMK),
		},
	}
}

// railRecord is file 1A of a new card: with what the card it replaces had ridden
// this month, so that the gates go on with the rebate.
func railRecord(c Card) purse.Transit {
	r := purse.NewTransit(c.ID.Purse())
	if !c.Carry.At.IsZero() {
		r.Count, r.Accumulated, r.LastAt = uint16(c.Carry.Rides), uint32(c.Carry.Spent.Minor()), purse.StampOf(c.Carry.At)
	}
	return r
}

// Bytes writes the value for sealing: version 2 | AIDs and card | shared |
// install parameters | groups | keys | groups that remove, each part behind its
// length as a varint.
func (p Personalisation) Bytes() []byte {
	b := []byte{persoVersion}
	for _, s := range []string{string(p.LoadFile), string(p.Module), string(p.Instance), string(p.Card)} {
		b = appendPart(b, []byte(s))
	}
	shared := byte(0)
	if p.Shared {
		shared = 1
	}
	b = appendGroups(appendPart(append(b, shared), p.Install), p.Groups)
	b = binary.AppendUvarint(b, uint64(len(p.Keys)))
	for _, k := range p.Keys {
		b = append(binary.BigEndian.AppendUint16(b, k.DGI), byte(k.Form), byte(k.Kind), k.Index)
		b = appendPart(appendPart(appendPart(b, []byte(k.Label)), []byte(k.Card)), k.Data)
	}
	return appendGroups(b, p.Remove)
}

func appendGroups(b []byte, groups []globalplatform.DGI) []byte {
	b = binary.AppendUvarint(b, uint64(len(groups)))
	for _, g := range groups {
		b = appendPart(binary.BigEndian.AppendUint16(b, g.ID), g.Data)
	}
	return b
}

// ParsePersonalisation reads what Bytes wrote, and the form before it.
func ParsePersonalisation(b []byte) (p Personalisation, err error) {
	if len(b) == 0 || b[0] != persoVersion && b[0] != persoPurses {
		return p, fmt.Errorf("%w: no version", ErrPersonalisation)
	}
	old := b[0] == persoPurses
	r := &reader{b: b[1:]}
	p.LoadFile, p.Module, p.Instance = globalplatform.AID(r.part()), globalplatform.AID(r.part()), globalplatform.AID(r.part())
	p.Card = CardID(r.part())
	if !old {
		shared := r.byte()
		p.Shared, r.bad = shared == 1, r.bad || shared > 1
		if p.Install = r.part(); len(p.Install) == 0 {
			p.Install = nil
		}
	}
	p.Groups = r.groups()
	for range r.number(maxGroups) {
		p.Keys = append(p.Keys, r.key(old, p.Card))
	}
	if !old {
		p.Remove = r.groups()
	}
	if r.bad || len(r.b) > 0 {
		return Personalisation{}, ErrPersonalisation
	}
	return p, nil
}

func (r *reader) groups() (out []globalplatform.DGI) {
	for range r.number(maxGroups) {
		if id := r.take(2); id != nil {
			out = append(out, globalplatform.DGI{ID: binary.BigEndian.Uint16(id), Data: r.part()})
		}
	}
	return out
}

func (r *reader) key(old bool, card CardID) (k hsm.KeyRef) {
	if old {
		if head := r.take(3); head != nil {
			k = hsm.KeyRef{DGI: binary.BigEndian.Uint16(head), Kind: purse.KeyKind(head[2]), Index: 1, Label: string(r.part()), Card: string(card)}
		}
		return k
	}
	if head := r.take(5); head != nil {
		k = hsm.KeyRef{DGI: binary.BigEndian.Uint16(head), Form: hsm.Form(head[2]), Kind: purse.KeyKind(head[3]), Index: head[4]}
		k.Label, k.Card = string(r.part()), string(r.part())
		if k.Data = r.part(); len(k.Data) == 0 {
			k.Data = nil
		}
	}
	return k
}

func appendPart(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// A reader is a cursor over a stored form; the first failure sticks.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number(limit int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(limit) || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) part() []byte { return r.take(r.number(1 << 16)) }

// An order is what a personalisation is drawn up from.
type order struct {
	card     Card
	product  Product
	template Template
	secret   secret
	pin      []byte // sealed, of a card that checks it by itself
	nth      int    // of the coupons that its band ever had, from 1
	grant    Grant  // of a coupon
}

// Personalise draws up what the card's element is to be written with. It may
// be called again: everything in it is derived or kept, so the same card comes
// out the same.
func (b *Bank) Personalise(ctx context.Context, id CardID) (Personalisation, error) {
	p, err := b.personalise(ctx, id)
	if err != nil {
		return Personalisation{}, fmt.Errorf("personalising card %s: %w", id.Masked(), err)
	}
	return p, nil
}

func (b *Bank) personalise(ctx context.Context, id CardID) (Personalisation, error) {
	var o order
	if err := b.store.Read(ctx, func(q *db.Query) error { return o.load(q, id) }); err != nil {
		return Personalisation{}, err
	}
	switch o.card.Kind {
	case Transit:
		return TransitPersonalisation(o.card, o.product), nil
	case ECash, Debit, Credit:
		return b.bankCard(ctx, o)
	case Canteen, Door:
		return desfireCard(o)
	case Coupon:
		return couponCard(o)
	}
	return Personalisation{}, fmt.Errorf("kind %s: %w", o.card.Kind, ErrKind)
}

func (o *order) load(q db.Reader, id CardID) (err error) {
	if o.card, err = Get(q, id); err != nil {
		return err
	}
	if o.product, err = ProductOn(q, o.card.Product, o.card.Opened); err != nil || o.product.Kind == Transit {
		return err
	}
	if o.template, err = TemplateOf(q, o.product.Template); err != nil {
		return err
	}
	if o.card.Kind.Bank() {
		if o.secret, err = secretOf(q, id); err == nil {
			o.pin, err = freshPIN(q, id)
		}
		return err
	}
	if o.card.Kind == Coupon {
		if o.grant, err = GrantOf(q, id); err != nil {
			return err
		}
	}
	return q.QueryRow(`SELECT COUNT(*) FROM issuing_card WHERE band = $1 AND kind = $2 AND id <= $3`, o.card.Band, o.card.Kind, o.card.ID).Scan(&o.nth)
}

// begin is a personalisation without groups.
func (o order) begin() Personalisation {
	return Personalisation{LoadFile: globalplatform.AID(o.product.Package), Module: globalplatform.AID(o.product.Module),
		Instance: globalplatform.AID(o.card.Instance), Card: o.card.ID, Shared: o.card.Kind.Shared()}
}

// The bank's country and currency: China, yuan (ISO 3166, ISO 4217).
var china = [2]byte{0x01, 0x56}

// bankCard lays a bank card out, certifies its key, and puts references in the
// place of everything secret.
func (b *Bank) bankCard(ctx context.Context, o order) (Personalisation, error) {
	d, err := read[BankData](o.template.Data)
	if err == nil && d.OfflinePIN && len(o.pin) == 0 {
		err = ErrNoPIN
	}
	if err != nil {
		return Personalisation{}, err
	}
	number, err := b.panOf(ctx, o.secret)
	if err != nil {
		return Personalisation{}, err
	}
	icc, err := b.keys.TakeICCKey(ctx, string(o.card.ID))
	if err != nil {
		return Personalisation{}, err
	}
	c := o.layout(d, number)
	if err := b.certify(ctx, &c, o, icc); err != nil {
		return Personalisation{}, err
	}
	var second hsm.ICCKey
	if d.SM {
		if second, err = b.certifySM(ctx, &c, o); err != nil {
			return Personalisation{}, err
		}
	}
	p := o.begin()
	ref := hsm.BankCard{PAN: string(number), PSN: o.secret.psn, Alg: pboc.Algorithm(o.secret.alg), DKI: o.secret.dki}.Ref()
	for _, g := range c.Personalisation().DGIs() {
		switch g.ID {
		case pboc.DGIKeys, pboc.DGIKeyChecks, pboc.DGIOpenKeys, pboc.DGIOpenChecks:
		default:
			p.Groups = append(p.Groups, globalplatform.DGI{ID: g.ID, Data: g.Data})
		}
	}
	p.Keys = []hsm.KeyRef{{DGI: pboc.DGIKeys, Form: hsm.CardKeys, Label: hsm.LabelCardAC, Card: ref},
		{DGI: pboc.DGIKeyChecks, Form: hsm.CardChecks, Label: hsm.LabelCardAC, Card: ref}}
	for part := pboc.DGICoefficient; part <= pboc.DGIPrimeP; part++ {
		p.Keys = append(p.Keys, hsm.KeyRef{DGI: uint16(part), Form: hsm.RSAPart, Label: hsm.LabelIssuer, Card: icc.ID})
	}
	if d.SM {
		for _, part := range []uint16{pboc.DGIScalarSM, pboc.DGIPointSM} {
			p.Keys = append(p.Keys, hsm.KeyRef{DGI: part, Form: hsm.SM2Part, Label: hsm.LabelIssuer + hsm.LabelSM2, Card: second.ID})
		}
	}
	if d.OfflinePIN {
		p.Groups = append(p.Groups, globalplatform.DGI{ID: pboc.DGIPINTries, Data: []byte{maxPINTries, maxPINTries}})
		p.Keys = append(p.Keys, hsm.KeyRef{DGI: pboc.DGIPIN, Form: hsm.PINGroup, Data: o.pin})
	}
	if len(c.Files) > 0 {
		sfis := make([]byte, len(c.Files))
		p.Keys = append(p.Keys, hsm.KeyRef{DGI: pboc.DGIOpenKeys, Form: hsm.OpenKeys, Label: hsm.LabelOpen, Card: ref, Data: sfis},
			hsm.KeyRef{DGI: pboc.DGIOpenChecks, Form: hsm.OpenChecks, Label: hsm.LabelOpen, Card: ref, Data: sfis})
	}
	return p, nil
}

// layout is the card as spec/pboc lays it out, without keys and certificates.
func (o order) layout(d BankData, number pan.PAN) pboc.Card {
	var aip emv.AIP
	for _, bit := range []emv.AIPBit{emv.AIPDDA, emv.AIPCVM, emv.AIPTerminalRisk, emv.AIPIssuerAuth} {
		aip.Set(bit)
	}
	var ctq emv.CTQ
	ctq.Set(emv.CTQOnlineIfODA)
	ctq.Set(emv.CTQOnlineIfDate)
	c := pboc.Card{
		Label: d.Label, Priority: d.Priority, PAN: string(number), PSN: o.secret.psn, Service: d.Service,
		Effective: yymmdd(o.card.From), Expiry: yymmdd(o.card.To.AddDate(0, 0, -1)), Country: china, Currency: china,
		AIP: aip, CTQ: ctq, DKI: o.secret.dki, CVN: d.CVN, Alg: pboc.Algorithm(o.secret.alg), Version1: d.FastDDA1,
		Processing: pboc.Processing(d.Processing), SingleLimit: uint64(d.SingleLimit), ResetThreshold: uint64(d.ResetThreshold),
		CVMLimit: uint64(d.CVMLimit), TotalLimit: uint64(d.TotalLimit), TotalUpper: uint64(d.TotalUpper),
		Support: d.Support, OffsetLimit: uint64(d.OffsetLimit),
	}
	if d.ECash {
		c.Report, c.BalanceLimit = pboc.ReportBalance, uint64(o.product.MaxBalance.Minor())
	}
	if d.OfflinePIN {
		c.PINLimit = maxPINTries
	}
	if d.Support != 0 {
		c.Files = []pboc.File{{SFI: pboc.FirstFile, Kind: pboc.Variable, Read: pboc.Free, Write: pboc.Keyed, MaxRecord: 128, Size: 512}}
	}
	return c
}

// certify puts the RSA chain into the layout. Both certificates are for the
// same key and data each time, so they are the same bytes.
func (b *Bank) certify(ctx context.Context, c *pboc.Card, o order, icc hsm.ICCKey) error {
	issuer, own, index, err := b.chain(ctx, *c, o, icc)
	if err != nil {
		return err
	}
	c.CA, c.IssuerCertificate, c.IssuerRemainder, c.IssuerExponent = index, issuer.Certificate, issuer.Remainder, issuer.Exponent
	c.ICCCertificate, c.ICCRemainder, c.ICCExponent = own.Certificate, own.Remainder, own.Exponent
	return nil
}

// certifySM makes the card's SM2 key and puts the SM2 chain beside the other.
func (b *Bank) certifySM(ctx context.Context, c *pboc.Card, o order) (hsm.ICCKey, error) {
	icc, err := b.keys.TakeSM2Key(ctx, string(o.card.ID))
	if err != nil {
		return icc, err
	}
	issuer, own, index, err := b.chain(ctx, *c, o, icc)
	if err != nil {
		return icc, err
	}
	c.SM = pboc.SMChain{CA: index, IssuerCertificate: issuer.Certificate, ICCCertificate: own.Certificate}
	return icc, nil
}

// chain certifies a card key of either algorithm: the issuer's certificate, the
// card's own and the index of the CA key.
func (b *Bank) chain(ctx context.Context, c pboc.Card, o order, icc hsm.ICCKey) (issuer, own emv.Certificate, index byte, err error) {
	last := calendar.Of(o.card.To.AddDate(0, 0, -1), calendar.Beijing)
	issuer, index, err = b.keys.IssuerCertificate(ctx, icc.Public.Algorithm(), c.PAN[:8], [2]byte{0x12, bcd(last.Year)})
	if err != nil {
		return issuer, own, 0, err
	}
	sum := sha256.Sum256([]byte(o.card.ID))
	own, err = b.keys.ICCCertificate(ctx, emv.KeyInfo{Owner: c.PAN, Expiry: [2]byte{bcd(int(last.Month)), bcd(last.Year)}, Serial: [3]byte(sum[:]), Key: icc.Public}, c.Static())
	return issuer, own, index, err
}

// bcd is a number's last two digits.
func bcd(n int) byte { return byte(n/10%10<<4 | n%10) }

// yymmdd is the Beijing date of t as EMV codes dates.
func yymmdd(t time.Time) [3]byte {
	d := calendar.Of(t, calendar.Beijing)
	return [3]byte{bcd(d.Year), bcd(int(d.Month)), bcd(d.Day)}
}

// masterSettings of a band's DESFire card: everybody may list its applications,
// none but who has the master key makes, deletes or wipes any. The key comes
// with every card, so the factory's, which all the world knows, goes with the
// first.
const masterSettings = desfire.ChangeMaster | desfire.FreeListing | desfire.ChangeSettings

// desfireCard is one application of the band's DESFire card. Its keys, and the
// MAC of a door's credential, are made for the element the hsm is speaking to.
func desfireCard(o order) (Personalisation, error) {
	p := o.begin()
	var app desfire.Application
	label := hsm.LabelCanteen
	if o.card.Kind == Canteen {
		app = desfire.Canteen([3]desfire.SealedKey{})
	} else {
		d, err := read[DoorData](o.template.Data)
		if err != nil {
			return p, err
		}
		label = hsm.LabelDoor
		first := calendar.Of(o.card.From, calendar.Beijing)
		app = desfire.Door([2]desfire.SealedKey{}, desfire.Credential{Site: d.Site, Person: PersonOf(o.card.Customer),
			From: yyyymmdd(first), To: yyyymmdd(first.AddDays(d.Days - 1))})
	}
	body, err := app.Bytes()
	if err != nil {
		return p, err
	}
	p.Keys = []hsm.KeyRef{{DGI: desfire.DGIMaster, Form: hsm.AESMaster, Label: hsm.LabelPICC, Data: []byte{byte(masterSettings)}},
		{DGI: desfire.DGIApplication, Form: hsm.AESApp, Label: label, Data: body}}
	p.Remove = []globalplatform.DGI{{ID: desfire.DGIDelete, Data: desfire.Deletion(app.AID)}}
	return p, nil
}

// PersonOf is how door credentials and the plans of sites name a customer.
func PersonOf(c customer.ID) uint64 {
	sum := sha256.Sum256([]byte(c))
	return binary.BigEndian.Uint64(sum[:])
}

func yyyymmdd(d calendar.Date) [4]byte {
	return [4]byte{bcd(d.Year / 100), bcd(d.Year), bcd(int(d.Month)), bcd(d.Day)}
}

// maxCouponKeys is how many coupons of one band have keys of their own index.
const maxCouponKeys = 127

// couponCard is one coupon in the band's discount card, as far as it is used on
// the card it replaces: holder, coupon, and the keys of merchant and issuer for
// that holder.
func couponCard(o order) (Personalisation, error) {
	x, err := o.grant.on(o.card)
	if err != nil {
		return Personalisation{}, err
	}
	holder := CouponID("holder", o.card.Band)
	at := byte((o.nth - 1) % maxCouponKeys * 2)
	x.Key = at + 1
	p := o.begin()
	key := func(index byte, use coupon.KeyUse, owner coupon.ID) hsm.KeyRef {
		return hsm.KeyRef{DGI: coupon.DGIKeyFirst + uint16(index) - 1, Form: hsm.CouponKey, Label: hsm.LabelCoupon, Index: index,
			Data: append(append([]byte{byte(use)}, owner[:]...), holder[:]...)}
	}
	p.Groups = []globalplatform.DGI{{ID: coupon.DGIHolder, Data: holder[:]}, {ID: coupon.DGICoupon, Data: x.Bytes()}}
	p.Keys = []hsm.KeyRef{key(at+1, coupon.MerchantKey, x.Merchant), key(at+2, coupon.IssuerKey, x.Issuer)}
	p.Remove = []globalplatform.DGI{{ID: coupon.DGIDelete, Data: x.ID[:]}}
	return p, nil
}

// CouponName is how redemptions name a coupon card, and who redeems it.
func CouponName(c Card, merchant string) (id, shop string) {
	x, m := CouponID("coupon", string(c.ID)), CouponID("merchant", merchant)
	return hex.EncodeToString(x[:]), hex.EncodeToString(m[:])
}
