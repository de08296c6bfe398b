package shell

import (
	"koala/internal/db"
	"koala/merchant"
	"koala/web"
)

// ShopName is a shop for people; its number where merchant has none of it.
func ShopName(q db.Reader, id string) web.Text {
	s, err := merchant.ShopOf(q, id)
	if err != nil {
		return web.Same(id)
	}
	return web.Text{ZH: s.NameZH, EN: s.NameEN}
}
