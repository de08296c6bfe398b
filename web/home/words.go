package home

import "koala/web"

// words is the start page's catalog; in the acts %[1]s is who and %[2]s where.
var words = struct {
	Title, Headline, Lead, Taps, TopUps, Cards, Riding, Moved, Fares, Entries, Balanced, Unbalanced,
	Feed, FeedEmpty, CityTime, Speed, Stand, Times, Doors, DoorsLead, Open, Figures, Legend, Enter,
	DidTapIn, DidTapOut, DidBus, DidTopUp, DidIssue, DidBlock, DidRepair, DidSettle, DidTear, NoCity, SimulatedCity web.Text
}{
	Title:         web.Text{ZH: "一座城市在运转", EN: "A city at work"},
	Headline:      web.Text{ZH: "一座城市，一次次刷闸", EN: "A city, tap by tap"},
	Lead:          web.Text{ZH: "这里的每一次刷卡都走完整的链路：手环里的安全元件、闸机、清算、账本。点任何一条动态，就能看到它的报文、判断和分录。", EN: "Every tap here runs the whole chain: the secure element in the band, the gate, clearing, the books. Pick any act to see its messages, decisions and postings."},
	Taps:          web.Text{ZH: "刷卡", EN: "Taps"},
	TopUps:        web.Text{ZH: "充值", EN: "Top-ups"},
	Cards:         web.Text{ZH: "已发卡", EN: "Cards issued"},
	Riding:        web.Text{ZH: "正在乘车", EN: "Riding now"},
	Moved:         web.Text{ZH: "资金流转", EN: "Money moved"},
	Fares:         web.Text{ZH: "车费", EN: "Fares"},
	Entries:       web.Text{ZH: "分录", EN: "Ledger entries"},
	Balanced:      web.Text{ZH: "借贷相等，一分不差", EN: "balanced to the fen"},
	Unbalanced:    web.Text{ZH: "账不平", EN: "out of balance"},
	Feed:          web.Text{ZH: "刚刚发生", EN: "Just now"},
	FeedEmpty:     web.Text{ZH: "还没有人出门。把时间调快一点？", EN: "Nobody is out yet. Make the time run faster?"},
	CityTime:      web.Text{ZH: "城市时间", EN: "City time"},
	Speed:         web.Text{ZH: "时间流速", EN: "Speed of time"},
	Stand:         web.Text{ZH: "暂停", EN: "Pause"},
	Times:         web.Text{ZH: "%[1]d 倍", EN: "%[1]d×"},
	Doors:         web.Text{ZH: "推门进去看看", EN: "Come in"},
	DoorsLead:     web.Text{ZH: "点一个演示账号就能进去。", EN: "One tap on a demo login takes you inside."},
	Open:          web.Text{ZH: "打开", EN: "Open"},
	Figures:       web.Text{ZH: "累计", EN: "So far"},
	Legend:        web.Text{ZH: "绿圈是进站，橙圈是出站。", EN: "Green rings go in, amber rings come out."},
	Enter:         web.Text{ZH: "进入", EN: "Enter"},
	DidTapIn:      web.Text{ZH: "%[1]s 在%[2]s进站", EN: "%[1]s tapped in at %[2]s"},
	DidTapOut:     web.Text{ZH: "%[1]s 在%[2]s出站", EN: "%[1]s tapped out at %[2]s"},
	DidBus:        web.Text{ZH: "%[1]s 坐公交 %[2]s", EN: "%[1]s rode bus %[2]s"},
	DidTopUp:      web.Text{ZH: "%[1]s 空中充值", EN: "%[1]s topped up over the air"},
	DidIssue:      web.Text{ZH: "%[1]s 的手环里多了一张卡", EN: "a card was written into %[1]s's band"},
	DidBlock:      web.Text{ZH: "%[1]s 锁了卡", EN: "%[1]s blocked the card"},
	DidRepair:     web.Text{ZH: "%[1]s 在%[2]s补登了一次行程", EN: "%[1]s repaired a missing tap at %[2]s"},
	DidSettle:     web.Text{ZH: "与%[1]s完成清算", EN: "settled with %[1]s"},
	DidTear:       web.Text{ZH: "%[1]s 在%[2]s抬腕太快，再贴一次，不会多扣", EN: "%[1]s pulled away too early at %[2]s; nothing is paid twice"},
	NoCity:        web.Text{ZH: "这里没有模拟城市在运行。", EN: "No simulated city runs in this house."},
	SimulatedCity: web.Text{ZH: "人和列车是模拟的；卡、闸机和账本跑的是真代码。", EN: "People and trains are simulated; cards, gates and books run the real code."},
}
