package street

import "koala/transit/network"

// A Shop is a place with devices that take cards: a merchant's shop, a canteen
// or an office. The shops are invented; their stations are real.
type Shop struct {
	ID       string
	ZH, EN   string
	Slip     string // name on slips and in card logs, at most 20 bytes
	Near     string // station, Chinese
	Category uint16 // merchant category code (ISO 18245)
}

// The shops of the city.
var (
	haolin  = &Shop{"haolin", "好邻便利店 · 东单", "Haolin Convenience, Dongdan", "HAOLIN DONGDAN", "东单", 5411}
	maixiao = &Shop{"maixiao", "麦小面包房", "Maixiao Bakery", "MAIXIAO BAKERY", "西单", 5462}
	sanwei  = &Shop{"sanwei", "三味书店", "Sanwei Books", "SANWEI BOOKS", "灯市口", 5942}
	tongan  = &Shop{"tongan", "同安药房", "Tong'an Pharmacy", "TONGAN PHARMACY", "东四", 5912}
	kesi    = &Shop{"kesi", "科思大厦", "Kesi Tower", "KESI TOWER", "国贸", 5812}
)

// Shops lists them.
func Shops() []*Shop { return []*Shop{haolin, maixiao, sanwei, tongan, kesi} }

// Canteen is the one that has a canteen.
func Canteen() *Shop { return kesi }

// A Post is where one device stands, and for whom.
type Post struct {
	*Shop
	ID               string // shop.till, shop.coupon, kesi.canteen, kesi.lobby, kesi.archive
	Kind             Kind
	ZH, EN           string // of the device itself
	Number           uint32 // within the shop
	HoursZH, HoursEN string // of a door
}

// posts are all devices of shops and sites.
var posts = []Post{
	{haolin, "haolin.till", Till, "收银台", "till", 1, "", ""}, {maixiao, "maixiao.till", Till, "收银台", "till", 1, "", ""},
	{sanwei, "sanwei.till", Till, "收银台", "till", 1, "", ""}, {tongan, "tongan.till", Till, "收银台", "till", 1, "", ""},
	{maixiao, "maixiao.coupon", CouponDesk, "优惠券核销", "coupon desk", 2, "", ""}, {sanwei, "sanwei.coupon", CouponDesk, "优惠券核销", "coupon desk", 2, "", ""},
	{kesi, "kesi.canteen", CanteenTill, "员工餐厅", "canteen", 1, "", ""},
	{kesi, "kesi.lobby", Door, "大堂", "lobby", 2, "全天", "at any hour"}, {kesi, "kesi.archive", Door, "档案室", "archive", 3, "工作日 8:00–19:00", "weekdays 8:00 to 19:00"},
}

// Posts lists the devices of shops and sites.
func Posts() []Post { return posts }

// PostOf finds one by its name.
func PostOf(id string) (Post, bool) {
	for _, p := range posts {
		if p.ID == id {
			return p, true
		}
	}
	return Post{}, false
}

// At is the station that a shop stands near.
func (s *Shop) At(n *network.Network) (*network.Station, error) { return n.Find(s.Near) }
