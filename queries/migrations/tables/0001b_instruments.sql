-- Contract size, pip size and quote currency of what retail brokers list most. A row that is there already is kept.
INSERT INTO public.instruments (symbol, contract_size, pip_size, quote_currency) VALUES
    -- majors and crosses: one lot is 100,000 of the base
    ('EURUSD', 100000, 0.0001, 'USD'), ('GBPUSD', 100000, 0.0001, 'USD'), ('AUDUSD', 100000, 0.0001, 'USD'),
    ('NZDUSD', 100000, 0.0001, 'USD'), ('USDJPY', 100000, 0.01, 'JPY'), ('USDCHF', 100000, 0.0001, 'CHF'),
    ('USDCAD', 100000, 0.0001, 'CAD'),
    ('EURGBP', 100000, 0.0001, 'GBP'), ('EURJPY', 100000, 0.01, 'JPY'), ('EURCHF', 100000, 0.0001, 'CHF'),
    ('EURAUD', 100000, 0.0001, 'AUD'), ('EURCAD', 100000, 0.0001, 'CAD'), ('EURNZD', 100000, 0.0001, 'NZD'),
    ('GBPJPY', 100000, 0.01, 'JPY'), ('GBPCHF', 100000, 0.0001, 'CHF'), ('GBPAUD', 100000, 0.0001, 'AUD'),
    ('GBPCAD', 100000, 0.0001, 'CAD'), ('GBPNZD', 100000, 0.0001, 'NZD'), ('AUDJPY', 100000, 0.01, 'JPY'),
    ('AUDCHF', 100000, 0.0001, 'CHF'), ('AUDCAD', 100000, 0.0001, 'CAD'), ('AUDNZD', 100000, 0.0001, 'NZD'),
    ('NZDJPY', 100000, 0.01, 'JPY'), ('NZDCHF', 100000, 0.0001, 'CHF'), ('NZDCAD', 100000, 0.0001, 'CAD'),
    ('CADJPY', 100000, 0.01, 'JPY'), ('CADCHF', 100000, 0.0001, 'CHF'), ('CHFJPY', 100000, 0.01, 'JPY'),
    ('USDSGD', 100000, 0.0001, 'SGD'), ('USDHKD', 100000, 0.0001, 'HKD'), ('USDNOK', 100000, 0.0001, 'NOK'),
    ('USDSEK', 100000, 0.0001, 'SEK'), ('USDDKK', 100000, 0.0001, 'DKK'), ('USDPLN', 100000, 0.0001, 'PLN'),
    ('USDZAR', 100000, 0.0001, 'ZAR'), ('USDMXN', 100000, 0.0001, 'MXN'), ('USDTRY', 100000, 0.0001, 'TRY'),
    ('USDCNH', 100000, 0.0001, 'CNH'), ('EURNOK', 100000, 0.0001, 'NOK'), ('EURSEK', 100000, 0.0001, 'SEK'),
    ('EURPLN', 100000, 0.0001, 'PLN'),
    -- metals and energy: troy ounces and barrels
    ('XAUUSD', 100, 0.01, 'USD'), ('XAUEUR', 100, 0.01, 'EUR'), ('XAGUSD', 5000, 0.001, 'USD'),
    ('XPTUSD', 100, 0.01, 'USD'), ('XPDUSD', 100, 0.01, 'USD'),
    ('XTIUSD', 1000, 0.01, 'USD'), ('XBRUSD', 1000, 0.01, 'USD'), ('USOIL', 1000, 0.01, 'USD'),
    ('UKOIL', 1000, 0.01, 'USD'),
    -- indices: one lot is one unit of the index
    ('US30', 1, 1, 'USD'), ('US500', 1, 0.1, 'USD'), ('NAS100', 1, 0.1, 'USD'), ('US2000', 1, 0.1, 'USD'),
    ('GER40', 1, 0.1, 'EUR'), ('FRA40', 1, 0.1, 'EUR'), ('EUSTX50', 1, 0.1, 'EUR'), ('UK100', 1, 0.1, 'GBP'),
    ('JPN225', 1, 1, 'JPY'), ('AUS200', 1, 0.1, 'AUD'), ('HK50', 1, 1, 'HKD'),
    -- crypto: one lot is one coin
    ('BTCUSD', 1, 1, 'USD'), ('ETHUSD', 1, 0.1, 'USD'), ('LTCUSD', 1, 0.01, 'USD'), ('XRPUSD', 1, 0.0001, 'USD'),
    ('BCHUSD', 1, 0.1, 'USD'), ('SOLUSD', 1, 0.01, 'USD'), ('ADAUSD', 1, 0.0001, 'USD'), ('DOGEUSD', 1, 0.00001, 'USD'),
    ('BNBUSD', 1, 0.1, 'USD'), ('DOTUSD', 1, 0.001, 'USD'), ('BTCEUR', 1, 1, 'EUR'), ('ETHEUR', 1, 0.1, 'EUR')
ON CONFLICT (symbol) DO NOTHING;
