package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"koala/calendar"
	"koala/city/street"
	"koala/money"
	"koala/terminal/canteen"
	"koala/terminal/door"
)

// The devices of these traces, and what a canteen card holds before.
const (
	traceCanteen = "kesi.canteen"
	traceDoor    = "kesi.lobby"
	traceDesk    = "maixiao.coupon"
	canteenFloat = 50_00
	lunchHour    = 12 * time.Hour
)

func traceMealCommand() *cobra.Command {
	var f traceFlags
	return f.command("meal", "Lunch in a canteen: value and log of a DESFire card in one commit, the employer's share",
		"  koala trace meal\n  koala trace meal --cut 2", (*scene).meal)
}

func traceDoorCommand() *cobra.Command {
	var f traceFlags
	return f.command("door", "A door opens: mutual authentication with an AES key of this card alone",
		"  koala trace door\n  koala trace door --lang zh", (*scene).door)
}

func traceCouponCommand() *cobra.Command {
	var f traceFlags
	c := f.command("coupon", "A coupon is redeemed once, with the card's proof, and paid by who gave it",
		"  koala trace coupon\n  koala trace coupon --cut 1", (*scene).coupon)
	c.Flags().Int64Var(&f.amount, "amount", 26_00, "fen of the purchase")
	return c
}

// meal tells how lunch is paid.
func (s *scene) meal(f *traceFlags) error {
	s.product = street.CanteenCard
	s.clock.Set(calendar.Of(s.clock.Now(), calendar.Beijing).Start(calendar.Beijing).Add(lunchHour))
	return s.visited(f, canteenFloat, traceCanteen, "/meals", street.Wish{Dishes: []byte{2, 4}}, say{
		"The till proves itself with a key that only this card has, derived from the card's number; debit, log and the till's own line are one commit of the card.",
		"收银机以按卡号分散、仅此卡持有的密钥证明自己；扣款、日志与流水在卡内一次提交。"})
}

// door tells how a door opens.
func (s *scene) door(f *traceFlags) error {
	s.product = street.DoorCard
	return s.visited(f, 0, traceDoor, "/passages", street.Wish{}, say{
		"Door and card prove themselves to each other with AES under a key of this card alone; the credential inside names site, person and days under the house's MAC. The plan with its grants is in the door.",
		"门与卡以仅此卡持有的 AES 密钥相互认证；卡内凭证以平台 MAC 写明地点、人员与有效期。权限计划在门禁机内。"})
}

// coupon tells how a coupon is redeemed.
func (s *scene) coupon(f *traceFlags) error {
	s.product = street.BakeryCoupon
	return s.visited(f, 0, traceDesk, "/redemptions", street.Wish{Fen: uint64(f.amount)}, say{
		"The desk lists the card's coupons, proves itself as this merchant and redeems one: the card counts the use, and signs what it did for the merchant and for whoever gave the coupon.",
		"核销台列出卡内优惠券，证明自己是该商户并核销一张：卡片记录使用，并分别向商户与发券方出具证明。"})
}

// visited tells a visit at a device of a shop or site, from the card to payout.
func (s *scene) visited(f *traceFlags, fen int64, post, ends string, w street.Wish, how say) error {
	if err := s.shopping(fen, post, ends); err != nil {
		return err
	}
	s.begin("start", say{"The card", "卡片"}, sayf(say{
		"The band holds the card, written over the air before (koala trace issue --card %s). The device has its keys and its pack from the house, and asks nobody while somebody taps.",
		"卡片已在手环中，此前空中发卡写入（koala trace issue --card %s）。设备持有平台下发的密钥与数据包，刷卡时不联机。"}, map[string]string{
		traceCanteen: "canteen", traceDoor: "door", traceDesk: "coupon"}[post]))
	if err := s.cardRow(); err != nil {
		return err
	}
	v, err := s.presented(f, w, how)
	if err != nil {
		return err
	}
	if err := s.deviceSays(v); err != nil {
		return err
	}
	s.clock.Advance(time.Minute)
	s.begin("house", say{"The device hands over to the house", "设备上传平台"}, say{
		"What the card proved is verified with keys that stay in the hsm; each record is taken once.",
		"卡片的证明以不出加密机的密钥验证；每条记录只收一次。"})
	n, err := s.street.HandIn(s.ctx, post)
	if err != nil {
		return err
	}
	s.put(traceLine{Kind: "message", Text: s.sent.Method + " " + s.sent.URL.Path, Body: s.bodyText(), Fields: []traceField{
		{Name: "Authorization", Value: "Bearer ••••", Secret: true}, s.field(say{"acknowledged", "已确认"}, "%d", n)}})
	if err := s.booked(); err != nil {
		return err
	}
	if err := s.captures(); err != nil {
		return err
	}
	if err := s.happened(); err != nil {
		return err
	}
	if err := s.again(kindTill, func([]byte) (string, error) { return v.At.TID(), nil }); err != nil {
		return err
	}
	if err := s.morning(); err != nil {
		return err
	}
	return s.proof()
}

// bodyText is what was handed over: JSON as it is, bytes in hexadecimal.
func (s *scene) bodyText() string {
	if len(s.body) > 0 && (s.body[0] == '{' || s.body[0] == '[') {
		return string(s.body)
	}
	return upper(s.body)
}

// deviceSays tells what the device decided and stored.
func (s *scene) deviceSays(v street.Visit) error {
	s.begin("device", say{"What the device decided", "设备的判定"}, say{
		"All of it offline. The time is computed from the bytes and a model of the chip: the radio is simulated.",
		"全部脱机完成。时间由字节数与芯片模型计算：射频为模拟。"})
	l := traceLine{Kind: "decision", Text: s.in(say{v.Words[0], v.Words[1]})}
	if v.Fen != 0 {
		l.Fields = append(l.Fields, s.field(say{"amount", "金额"}, "%s CNY", money.Fen(v.Fen).Yuan()))
	}
	if m := v.Meal; m != nil {
		l.Fields = append(l.Fields, s.field(say{"the employer's share", "单位补贴"}, "%s CNY", money.Fen(int64(m.Subsidy)).Yuan()))
	}
	if v.Balance >= 0 {
		l.Fields = append(l.Fields, s.field(say{"balance on the card", "卡内余额"}, "%s CNY", money.Fen(v.Balance).Yuan()))
	}
	if p := v.Passage; p != nil {
		l.Fields = append(l.Fields, s.field(say{"door", "门"}, "%s", v.At.TID()), s.field(say{"UID of the card", "卡片 UID"}, "%X", p.Card[:]),
			s.field(say{"person", "人员"}, "%d", p.Person))
	}
	s.put(l)
	budget := canteen.Budget // coupon desks have the same
	if v.Passage != nil {
		budget = door.Budget
	}
	s.fieldTime(v.Time, budget)
	if len(v.Receipt[0]) > 0 {
		s.slip(v.Receipt)
	}
	switch v.End {
	case street.Served, street.Passed, street.Redeemed:
		return nil
	}
	return fmt.Errorf("the device did not serve the card: %s: %w", v.Words[0], errFoundWrong)
}
